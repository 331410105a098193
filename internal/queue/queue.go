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

// Queue is comfyherd on one NATS connection, opened by Open and ended by Close. It is safe for use by many goroutines, keeps no
// state that is not in NATS, and never closes the connection, which the caller owns.
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
	assets             natsjs.KeyValue
	requestKeys        natsjs.KeyValue
	catalogs, apiKeys  natsjs.KeyValue
	userData, hidden   natsjs.KeyValue
	webhooks           natsjs.KeyValue
	objects            map[string]natsjs.ObjectStore
	parts              chan struct{} // has a value for each part of a file in flight
	readJobs           natsjs.Stream // the streams named read* read from the leader: see reader
	readEvents         natsjs.Stream
	readWaiting        natsjs.Stream // of the bucket, to distinguish a claimed ticket from one that never existed
	readBlocks         natsjs.Stream // of the bucket, to read the ends of blocks with their headers
	readStrikes        natsjs.Stream
	readHosts          natsjs.Stream
	readSlots          natsjs.Stream
	readAssets         natsjs.Stream
	readCapabilities   natsjs.Stream
	readFiles          map[string]natsjs.Stream // of the object stores

	made        atomic.Pointer[time.Time] // when COMFY_JOBS was created
	ackWait     time.Duration
	presenceTTL time.Duration
	eventsAge   time.Duration
	filesAge    time.Duration
	room        int64        // bytes that all streams may hold together; 0: their maxima are not changed
	maxJob      atomic.Int64 // the most bytes of a job in COMFY_JOBS; 0: only max_payload limits it
	jobsRoom    atomic.Int64 // the most bytes that COMFY_JOBS holds; 0: no maximum

	clock      clock
	reconnects generation

	stopKeeping context.CancelFunc
	keeping     sync.WaitGroup
	calls       calls
}

// Open makes the streams and buckets that are missing and returns a Queue. When JetStream cannot be used on nc, the error says what
// to do about it.
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
	q.keepStreams(ctx)
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

// apiSubject is the subject of a request to JetStream's API, such as STREAM.INFO.<name>.
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
	q.keepJobLimits(&q.jobs.CachedInfo().Config)
	q.eventsAge = q.events.CachedInfo().Config.MaxAge
	q.objects, q.readFiles, q.parts = map[string]natsjs.ObjectStore{}, map[string]natsjs.Stream{}, make(chan struct{}, partsInFlight)
	for _, name := range stores() {
		if q.objects[name], err = objects(ctx, t, name); err != nil {
			return err
		}
		if q.readFiles[name], err = q.reader(ctx, names.StoreStream(name)); err != nil {
			return err
		}
	}
	q.filesAge = q.readFiles[names.OutputsStore].CachedInfo().Config.MaxAge
	return nil
}

// reader opens a stream for reads on which decisions rest. They ask the leader: any copy answers a direct get, also one that is
// behind, and a chain that it does not have yet would count as empty. nats.go asks the leader when the stream's settings in this
// handle have no direct gets, so Info, which would read them again, must not be called on it. A program that may not make consumers
// may ask the leader only for events; of buckets it reads only its own keys, and no decision rests on these.
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
	return answered(ctx, func(ctx context.Context) (natsjs.Stream, error) { return streamMade(ctx, q.js, name) })
}

// keepJobLimits keeps the limits of COMFY_JOBS.
func (q *Queue) keepJobLimits(cfg *natsjs.StreamConfig) {
	q.maxJob.Store(max(0, int64(cfg.MaxMsgSize)-names.Headroom))
	q.jobsRoom.Store(max(0, cfg.MaxBytes))
}

// JobsRoom is the most bytes of unfinished jobs that COMFY_JOBS holds; 0: no maximum.
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
		names.AssetsBucket: &q.assets, names.RequestKeysBucket: &q.requestKeys,
		names.CatalogsBucket: &q.catalogs, names.APIKeysBucket: &q.apiKeys,
		names.UserDataBucket: &q.userData, names.HiddenBucket: &q.hidden,
		names.WebhooksBucket: &q.webhooks,
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
	for bucket, stream := range map[string]*natsjs.Stream{
		names.BlocksBucket: &q.readBlocks, names.StrikesBucket: &q.readStrikes, names.HostsBucket: &q.readHosts, names.SlotsBucket: &q.readSlots,
		names.AssetsBucket: &q.readAssets, names.CapabilitiesBucket: &q.readCapabilities,
	} {
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

// currentAckWait is AckWait as the Config sets it, else as the consumers in NATS have it, else the default.
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

// PresenceTTL is how long the presence of a host or dispatcher lasts after its last heartbeat.
func (q *Queue) PresenceTTL() time.Duration { return q.presenceTTL }

// EventsAge is how long events are kept, and so how long an id stays taken.
func (q *Queue) EventsAge() time.Duration { return q.eventsAge }

// FilesAge is how long outputs and inputs are kept; 0: for ever.
func (q *Queue) FilesAge() time.Duration { return q.filesAge }

// Created is when COMFY_JOBS was created; ids that the system makes contain it. It changes when the stream is created again.
func (q *Queue) Created() time.Time { return *q.made.Load() }

// Connected reports whether NATS can be reached right now.
func (q *Queue) Connected() bool { return q.nc.IsConnected() }

// Close stops the goroutines and subscriptions of the Queue: the clock, the care for streams, reconnects and answers. The connection
// stays open.
func (q *Queue) Close() {
	q.clock.stop()
	q.stopKeeping()
	q.keeping.Wait()
	q.reconnects.stop()
	q.calls.stop()
}
