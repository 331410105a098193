package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Queue is an open comfyherd on a NATS connection. It is safe for use by many goroutines, holds no state that
// is not in NATS, and never closes the connection, which stays the caller's.
type Queue struct {
	nc  *nats.Conn
	js  natsjs.JetStream
	cfg Config

	jobs, events, dead natsjs.Stream
	waiting, blocks    natsjs.KeyValue
	strikes            natsjs.KeyValue
	hosts, dispatchers natsjs.KeyValue
	capabilities       natsjs.KeyValue
	conditions         natsjs.KeyValue
	affinity, tenants  natsjs.KeyValue
	slots              natsjs.KeyValue
	secrets, grants    natsjs.KeyValue
	objects            map[string]natsjs.ObjectStore
	parts              chan struct{} // one for each part of a file in flight
	readJobs           natsjs.Stream // readers, as reader says
	readEvents         natsjs.Stream
	readWaiting        natsjs.Stream // the bucket's, to tell a claim from a ticket that never was
	readBlocks         natsjs.Stream // the bucket's, also to read ends of blocks with their headers
	readStrikes        natsjs.Stream
	readHosts          natsjs.Stream
	readSlots          natsjs.Stream
	readFiles          map[string]natsjs.Stream // of the object stores

	made        atomic.Pointer[time.Time] // when the stream of jobs was made
	ackWait     time.Duration
	presenceTTL time.Duration
	eventsAge   time.Duration
	room        int64        // what all streams may hold together; 0 = their maxima are left alone
	maxJob      atomic.Int64 // bytes of a job that COMFY_JOBS takes; 0 = as many as NATS does
	jobsRoom    atomic.Int64 // bytes that COMFY_JOBS holds at most; 0 = as many as come

	clock      clock
	reconnects generation

	stopTending context.CancelFunc
	tending     sync.WaitGroup
	calls       calls
}

// Open makes the streams and buckets that are missing and returns the Queue on them. It fails when JetStream is
// not to be had on nc, and says what to do about it.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Queue, error) {
	js, err := open(nc, cfg)
	if err != nil {
		return nil, err
	}
	q := &Queue{nc: nc, js: js, cfg: cfg, calls: calls{nc: nc}}
	q.reconnects.watch(nc)
	if err := q.openAll(ctx); err != nil {
		q.reconnects.stop()
		return nil, explain(err)
	}
	q.clock.ask, q.clock.wall, q.clock.warn = q.serverTime(), cfg.Clock, q.warn
	if cfg.Clock == nil {
		q.clock.wall = time.Now
	}
	q.clock.begin(ctx, q.reconnects.current, q.reconnects.over)
	q.tend(ctx)
	return q, nil
}

func (q *Queue) warn(err error) {
	if q.cfg.Warn != nil {
		q.cfg.Warn(err)
	}
}

func (q *Queue) openAll(ctx context.Context) (err error) {
	t := topology{js: q.js, cfg: q.cfg}
	if q.room, err = t.limits(ctx); err != nil {
		return err
	}
	t.room = q.room
	if err := t.streams(ctx); err != nil {
		return err
	}
	if err := q.bind(ctx, t); err != nil {
		return err
	}
	return q.bindBuckets(ctx, t)
}

func open(nc *nats.Conn, cfg Config) (natsjs.JetStream, error) {
	pending := natsjs.WithPublishAsyncMaxPending(4096)
	switch {
	case cfg.Domain != "" && cfg.APIPrefix != "":
		return nil, errors.New("give a JetStream domain or an API prefix, not both")
	case cfg.Domain != "":
		return natsjs.NewWithDomain(nc, cfg.Domain, pending)
	case cfg.APIPrefix != "":
		return natsjs.NewWithAPIPrefix(nc, cfg.APIPrefix, pending)
	}
	return natsjs.New(nc, pending)
}

// apiSubject is where JetStream's API answers to what.
func (q *Queue) apiSubject(what string) string {
	switch {
	case q.cfg.Domain != "":
		return "$JS." + q.cfg.Domain + ".API." + what
	case q.cfg.APIPrefix != "":
		return strings.TrimSuffix(q.cfg.APIPrefix, ".") + "." + what
	}
	return natsjs.DefaultAPIPrefix + what
}

func explain(err error) error {
	switch {
	case errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("this NATS has no JetStream: start nats-server with -js, or give the JetStream domain: %w", err)
	case errors.Is(err, natsjs.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not enabled for this NATS account: enable it or use other credentials: %w", err)
	case errors.Is(err, natsjs.ErrLimitMarkerTTLNotSupported):
		return fmt.Errorf("this nats-server is too old: 2.11.2 or newer is needed for blocks that lift by themselves: %w", err)
	}
	return err
}

func (q *Queue) bind(ctx context.Context, t topology) error {
	for name, stream := range map[string]*natsjs.Stream{names.JobsStream: &q.jobs, names.EventsStream: &q.events, names.DeadStream: &q.dead} {
		found, err := q.stream(ctx, name)
		if err != nil {
			return fmt.Errorf("open stream %s: %w", name, err)
		}
		*stream = found
	}
	var err error
	if q.readJobs, err = q.reader(ctx, names.JobsStream); err != nil {
		return err
	}
	if q.readEvents, err = q.reader(ctx, names.EventsStream); err != nil {
		return err
	}
	q.made.Store(&q.jobs.CachedInfo().Created)
	q.heedJobs(&q.jobs.CachedInfo().Config)
	q.eventsAge = q.events.CachedInfo().Config.MaxAge
	q.objects, q.readFiles, q.parts = map[string]natsjs.ObjectStore{}, map[string]natsjs.Stream{}, make(chan struct{}, partsInFlight)
	for _, name := range []string{names.OutputsStore, names.InputsStore} {
		if q.objects[name], err = objects(ctx, t, name); err != nil {
			return err
		}
		if q.readFiles[name], err = q.reader(ctx, names.StoreStream(name)); err != nil {
			return err
		}
	}
	return nil
}

// reader opens a stream for the reads that decisions rest on. Of several copies the leader is asked: any copy answers
// a direct get, also one that is behind, and a chain that it has not seen yet would count as none. nats.go asks the
// leader when the stream, as this handle remembers it, has no direct gets; Info must not be called on it. Who may make no
// consumer may ask a leader for events alone: he reads no bucket but for his own keys, and nothing rests on these.
func (q *Queue) reader(ctx context.Context, name string) (natsjs.Stream, error) {
	stream, err := q.stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	if cfg := &stream.CachedInfo().Config; cfg.Replicas > 1 && (!q.cfg.NoConsumers || name == names.EventsStream) {
		cfg.AllowDirect = false
	}
	return stream, nil
}

func (q *Queue) stream(ctx context.Context, name string) (natsjs.Stream, error) {
	return answered(ctx, func(ctx context.Context) (natsjs.Stream, error) { return made(ctx, q.js, name) })
}

// heedJobs reads what the stream of jobs takes.
func (q *Queue) heedJobs(cfg *natsjs.StreamConfig) {
	q.maxJob.Store(max(0, int64(cfg.MaxMsgSize)-names.Headroom))
	q.jobsRoom.Store(max(0, cfg.MaxBytes))
}

// JobsRoom is how many bytes of unfinished jobs COMFY_JOBS holds at most; 0 is no maximum.
func (q *Queue) JobsRoom() int64 { return q.jobsRoom.Load() }

func objects(ctx context.Context, t topology, name string) (natsjs.ObjectStore, error) {
	return answered(ctx, func(ctx context.Context) (natsjs.ObjectStore, error) { return t.objects(ctx, name) })
}

func (q *Queue) bindBuckets(ctx context.Context, t topology) error {
	opened := map[string]*natsjs.KeyValue{
		names.WaitingBucket: &q.waiting, names.BlocksBucket: &q.blocks, names.StrikesBucket: &q.strikes, names.HostsBucket: &q.hosts,
		names.DispatchersBucket: &q.dispatchers, names.CapabilitiesBucket: &q.capabilities,
		names.ConditionsBucket: &q.conditions,
		names.AffinityBucket:   &q.affinity, names.TenantsBucket: &q.tenants,
		names.SlotsBucket: &q.slots, names.SecretsBucket: &q.secrets, names.GrantsBucket: &q.grants,
	}
	for _, want := range t.buckets() {
		kv, err := answered(ctx, func(ctx context.Context) (natsjs.KeyValue, error) { return t.keyValue(ctx, want) })
		if err != nil {
			return err
		}
		*opened[kv.Bucket()] = kv
	}
	var err error
	if q.readWaiting, err = q.reader(ctx, names.BucketStream(names.WaitingBucket)); err != nil {
		return err
	}
	for bucket, stream := range map[string]*natsjs.Stream{names.BlocksBucket: &q.readBlocks, names.StrikesBucket: &q.readStrikes, names.HostsBucket: &q.readHosts, names.SlotsBucket: &q.readSlots} {
		if *stream, err = q.reader(ctx, names.BucketStream(bucket)); err != nil {
			return err
		}
	}
	status, err := answered(ctx, q.hosts.Status)
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", names.HostsBucket, err)
	}
	q.presenceTTL = cmp.Or(status.TTL(), defaultPresenceTTL)
	if q.ackWait, err = q.currentAckWait(ctx); err != nil {
		return err
	}
	return q.makeSecrets(ctx)
}

// currentAckWait is what stands in NATS, unless it was set by hand.
func (q *Queue) currentAckWait(ctx context.Context) (time.Duration, error) {
	if q.cfg.AckWait != 0 {
		return q.cfg.AckWait, nil
	}
	found, err := answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) {
		return q.js.Consumer(ctx, names.JobsStream, names.DispatchConsumer(job.Usual))
	})
	if errors.Is(err, natsjs.ErrConsumerNotFound) {
		return defaultAckWait, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up consumer %s: %w", names.DispatchConsumer(job.Usual), err)
	}
	return found.CachedInfo().Config.AckWait, nil
}

// AckWait is how long a lease lives without an extension.
func (q *Queue) AckWait() time.Duration { return q.ackWait }

// PresenceTTL is how long a host or dispatcher that stopped beating still counts as there.
func (q *Queue) PresenceTTL() time.Duration { return q.presenceTTL }

// EventsAge is how long events are kept, and so how long an id stays taken.
func (q *Queue) EventsAge() time.Duration { return q.eventsAge }

// Created is when the stream of jobs was made; it stands in the ids that the system gives. It changes when the stream is
// made again.
func (q *Queue) Created() time.Time { return *q.made.Load() }

// Connected reports whether NATS can be reached right now.
func (q *Queue) Connected() bool { return q.nc.IsConnected() }

// Close stops measuring the clock, listening to the connection's ups and downs, and to answers. The connection stays
// open.
func (q *Queue) Close() {
	q.clock.stop()
	q.stopTending()
	q.tending.Wait()
	q.reconnects.stop()
	q.calls.stop()
}
