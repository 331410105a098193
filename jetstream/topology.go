package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// topology makes what is missing and widens what the Config sets by hand. It never deletes.
type topology struct {
	js  natsjs.JetStream
	cfg Config
}

func (t topology) storage() natsjs.StorageType {
	if t.cfg.Memory {
		return natsjs.MemoryStorage
	}
	return natsjs.FileStorage
}

func (t topology) compression() natsjs.StoreCompression {
	if t.cfg.Compression {
		return natsjs.S2Compression
	}
	return natsjs.NoCompression
}

func (t topology) jobs() natsjs.StreamConfig {
	subjects := make([]string, 0, 10)
	for p := job.Priority(0); p.Valid(); p++ {
		subjects = append(subjects, prioritySubject(p))
	}
	return natsjs.StreamConfig{
		Name: JobsStream, Description: "comfyherd: every unfinished job, once",
		Subjects: subjects, Retention: natsjs.WorkQueuePolicy, Storage: t.storage(), Compression: t.compression(),
		Discard: natsjs.DiscardNew, DiscardNewPerSubject: true,
		MaxMsgsPerSubject: int64(or(t.cfg.LaneCap, defaultLaneCap)),
		Duplicates:        jobsDuplicates, AllowDirect: true, Replicas: or(t.cfg.Replicas, 1),
	}
}

// events takes what is appended, stores it as an event and tells what it has stored: a publish that the stream refuses
// would reach whoever listens to its subject all the same.
func (t topology) events() natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: EventsStream, Description: "comfyherd: the chain of events of every job",
		Subjects:         []string{appends},
		SubjectTransform: &natsjs.SubjectTransformConfig{Source: appends, Destination: allEvents},
		RePublish:        &natsjs.RePublish{Source: allEvents, Destination: allEvents},
		Storage:          t.storage(), Compression: t.compression(),
		MaxAge: or(t.cfg.EventsAge, defaultEventsAge), AllowDirect: true, Replicas: or(t.cfg.Replicas, 1),
	}
}

func (t topology) dead() natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: DeadStream, Description: "comfyherd: jobs that ended dead, as published",
		Subjects: []string{deadSubjects}, Storage: t.storage(), Compression: t.compression(),
		MaxAge: or(t.cfg.DeadAge, defaultDeadAge), AllowDirect: true, Replicas: or(t.cfg.Replicas, 1),
	}
}

// live hands on progress that comes out of the account of a host: NATS gives nothing that came over a service to those
// who import a stream, and what a stream republishes it does. The last of each kind and job is kept for a while.
func (t topology) live() natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: LiveStream, Description: "comfyherd: progress of running jobs of hosts with an account of their own",
		Subjects:         []string{tells},
		SubjectTransform: &natsjs.SubjectTransformConfig{Source: tells, Destination: allLive},
		RePublish:        &natsjs.RePublish{Source: allLive, Destination: allLive},
		Storage:          natsjs.MemoryStorage, MaxMsgsPerSubject: 1, MaxAge: liveAge, MaxMsgs: liveMost, NoAck: true,
		AllowDirect: true, Replicas: or(t.cfg.Replicas, 1),
	}
}

func (t topology) streams(ctx context.Context) error {
	wanted := []natsjs.StreamConfig{t.jobs(), t.events(), t.dead(), t.live()}
	for _, cfg := range wanted {
		_, err := answered(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, t.stream(ctx, cfg) })
		if err != nil {
			return err
		}
	}
	return nil
}

// answerTime is how long a step of Open may take before it is begun again.
const answerTime = 2 * time.Second

// answered does a step that may be repeated, and again while the server does not answer: in a cluster it answers
// nobody about a stream or consumer that another dispatcher is making at the same moment.
func answered[T any](ctx context.Context, step func(context.Context) (T, error)) (T, error) {
	for {
		once, cancel := context.WithTimeout(ctx, answerTime)
		v, err := step(once)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) || ctx.Err() != nil {
			return v, err
		}
	}
}

func (t topology) stream(ctx context.Context, want natsjs.StreamConfig) error {
	found, err := t.js.Stream(ctx, want.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		if t.cfg.ReadOnly {
			return fmt.Errorf("stream %s is missing: start a dispatcher once, it makes it", want.Name)
		}
		_, err = t.js.CreateStream(ctx, want)
		if err == nil || !errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) {
			return wrap(err, "create stream %s", want.Name)
		}
		found, err = made(ctx, t.js, want.Name) // another dispatcher was first, with other settings
	}
	if err != nil || t.cfg.ReadOnly {
		return wrap(err, "look up stream %s", want.Name)
	}
	merged, changed := t.merge(found.CachedInfo().Config, want)
	if !changed {
		return nil
	}
	_, err = t.js.UpdateStream(ctx, merged)
	return wrap(err, "update stream %s", want.Name)
}

// made looks up a stream that has been made, for as long as ctx lasts: not every server of a cluster knows it at once.
func made(ctx context.Context, js natsjs.JetStream, name string) (natsjs.Stream, error) {
	for {
		stream, err := js.Stream(ctx, name)
		if !errors.Is(err, natsjs.ErrStreamNotFound) || !pause(ctx, rewatchPause) {
			return stream, err
		}
	}
}

// merge changes only what the Config sets by hand, and how events come into their stream.
func (t topology) merge(have, want natsjs.StreamConfig) (natsjs.StreamConfig, bool) {
	merged := have
	if t.cfg.Replicas != 0 {
		merged.Replicas = t.cfg.Replicas
	}
	if t.cfg.Compression {
		merged.Compression = natsjs.S2Compression
	}
	switch want.Name {
	case JobsStream:
		if t.cfg.LaneCap != 0 {
			merged.MaxMsgsPerSubject = int64(t.cfg.LaneCap)
		}
	case EventsStream:
		merged.MaxAge = or(t.cfg.EventsAge, have.MaxAge)
		merged.Subjects, merged.SubjectTransform, merged.RePublish = want.Subjects, want.SubjectTransform, want.RePublish
	case DeadStream:
		merged.MaxAge = or(t.cfg.DeadAge, have.MaxAge)
	}
	changed := merged.Replicas != have.Replicas || merged.Compression != have.Compression ||
		merged.MaxMsgsPerSubject != have.MaxMsgsPerSubject || merged.MaxAge != have.MaxAge ||
		!slices.Equal(merged.Subjects, have.Subjects) || !same(merged.SubjectTransform, have.SubjectTransform) || !same(merged.RePublish, have.RePublish)
	return merged, changed
}

// same compares what two settings point to.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func (t topology) bucket(name, about string, ttl, setByHand time.Duration) natsjs.KeyValueConfig {
	return natsjs.KeyValueConfig{
		Bucket: name, Description: "comfyherd: " + about, History: 1, TTL: or(setByHand, ttl),
		Storage: t.storage(), Replicas: or(t.cfg.Replicas, 1), LimitMarkerTTL: markerTTL,
	}
}

func (t topology) buckets() []natsjs.KeyValueConfig {
	presence := t.cfg.PresenceTTL
	return []natsjs.KeyValueConfig{
		t.bucket(WaitingBucket, "tickets of jobs that cannot run yet", 0, 0),
		t.bucket(BlocksBucket, "pairs of host and workflow that are blocked, until when and why", 0, 0),
		t.bucket(StrikesBucket, "failures of a pair since its last success", 0, 0),
		t.bucket(HostsBucket, "presence of hosts", defaultPresenceTTL, presence),
		t.bucket(DispatchersBucket, "presence of dispatchers", defaultPresenceTTL, presence),
		t.bucket(CapabilitiesBucket, "what each host can run", 0, 0),
		t.bucket(ConditionsBucket, "what outlives an agent: drained by whom, and what ails the host", 0, 0),
		t.bucket(AffinityBucket, "rules that tie a workflow to hosts", 0, 0),
		t.bucket(TenantsBucket, "weights and caps of tenants", 0, 0),
		t.bucket(SlotsBucket, "jobs that run of tenants with a cap", 0, 0),
		t.bucket(GrantsBucket, grantsAbout, 0, 0),
		t.bucket(SecretsBucket, "what nobody may guess", 0, 0),
	}
}

func (t topology) keyValue(ctx context.Context, want natsjs.KeyValueConfig) (natsjs.KeyValue, error) {
	kv, err := t.js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, natsjs.ErrBucketNotFound) && !t.cfg.ReadOnly {
		kv, err = t.js.CreateKeyValue(ctx, want)
		if errors.Is(err, natsjs.ErrBucketExists) {
			return t.keyValue(ctx, want)
		}
	}
	if err != nil || t.cfg.ReadOnly {
		return kv, wrap(err, "open bucket %s", want.Bucket)
	}
	status, err := kv.Status(ctx)
	if errors.Is(err, natsjs.ErrStreamNotFound) && pause(ctx, rewatchPause) {
		return t.keyValue(ctx, want) // not every server of the cluster knows it yet
	}
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", want.Bucket, err)
	}
	byHand := t.presenceSet(want.Bucket) && status.TTL() != want.TTL || t.cfg.Replicas != 0 && status.Config().Replicas != t.cfg.Replicas
	if !byHand {
		return kv, nil
	}
	cfg := status.Config()
	cfg.Replicas = or(t.cfg.Replicas, cfg.Replicas)
	if t.presenceSet(want.Bucket) {
		cfg.TTL = want.TTL
	}
	kv, err = t.js.UpdateKeyValue(ctx, cfg)
	return kv, wrap(err, "update bucket %s", want.Bucket)
}

// grantsAbout is what the bucket of grants holds.
const grantsAbout = "whose jobs a host may have, and how many"

func (t topology) presenceSet(bucket string) bool {
	return t.cfg.PresenceTTL != 0 && (bucket == HostsBucket || bucket == DispatchersBucket)
}

func (t topology) objects(ctx context.Context, name, about string) (natsjs.ObjectStore, error) {
	store, err := t.js.ObjectStore(ctx, name)
	switch {
	case errors.Is(err, natsjs.ErrBucketNotFound) || errors.Is(err, natsjs.ErrStreamNotFound):
		if t.cfg.ReadOnly {
			return nil, fmt.Errorf("object store %s is missing: start a dispatcher once, it makes it", name)
		}
	case err != nil:
		return nil, fmt.Errorf("open object store %s: %w", name, err)
	case t.cfg.FilesAge == 0 && t.cfg.Replicas == 0 || t.cfg.ReadOnly:
		return store, nil
	}
	store, err = t.js.CreateOrUpdateObjectStore(ctx, natsjs.ObjectStoreConfig{
		Bucket: name, Description: "comfyherd: " + about, TTL: or(t.cfg.FilesAge, defaultFilesAge),
		Storage: t.storage(), Replicas: or(t.cfg.Replicas, 1),
	})
	return store, wrap(err, "create object store %s", name)
}

// wrap says what was tried. What an operator can mend at the server gets the way to do so.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var api *natsjs.APIError
	switch {
	case !errors.As(err, &api):
	case noRoom(api):
		return fmt.Errorf("%s: %w: %s: %w", what, ErrNoSpace, makeRoom, err)
	case api.ErrorCode == replicasNotSupportedCode:
		return fmt.Errorf("%s: this NATS is one server, and copies need a cluster; leave --replicas out: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
