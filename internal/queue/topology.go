package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// topology makes the streams and buckets that are missing, gives a maximum to those without one, and changes existing ones only
// where the Config has a setting. It deletes none of them.
type topology struct {
	js   natsjs.JetStream
	cfg  Config
	room int64 // bytes that all streams may hold together; 0: their maxima are not changed
}

// wanted is a stream as it is made, and which settings replace those of an existing one.
type wanted struct {
	natsjs.StreamConfig
	age   bool // MaxAge replaces that of an existing stream
	bytes bool // MaxBytes replaces that of an existing stream
}

// changes reports whether this program makes and changes streams. A program in an account of its own may not.
func (t topology) changes() bool { return !t.cfg.ReadOnly && !t.cfg.NoConsumers }

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

func (t topology) jobs() wanted {
	subjects := make([]string, 0, 10)
	for p := job.Priority(0); p.Valid(); p++ {
		subjects = append(subjects, names.PrioritySubject(p))
	}
	return t.bounded(natsjs.StreamConfig{
		Name: names.JobsStream, Description: "comfyherd: every unfinished job, once",
		Subjects: subjects, Retention: natsjs.WorkQueuePolicy, Storage: t.storage(), Compression: t.compression(),
		Discard: natsjs.DiscardNew, DiscardNewPerSubject: true,
		MaxMsgsPerSubject: int64(cmp.Or(t.cfg.LaneCap, defaultLaneCap)), MaxMsgSize: int32(cmp.Or(t.cfg.MaxJob, defaultMaxJob) + names.Headroom),
		Sources: noSource(), AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, t.cfg.JobsBytes)
}

// noSource lets COMFY_JOBS have no window for duplicates, in which NATS drops a message whose Nats-Msg-Id came before: all tenants
// share it, so one could suppress another's job. Only a stream with a source may have none. The source is the stream itself, with a
// subject that it never stores.
func noSource() []*natsjs.StreamSource {
	return []*natsjs.StreamSource{{Name: names.JobsStream, FilterSubject: "comfy.jobs"}}
}

// events stores what is published to comfy.append.> under comfy.events.> and republishes it there once it is stored. If events were
// published to comfy.events.> directly, subscribers would also receive those that the stream refuses.
func (t topology) events() wanted {
	w := t.bounded(natsjs.StreamConfig{
		Name: names.EventsStream, Description: "comfyherd: the chain of events of every job",
		Subjects:         []string{names.Appends},
		SubjectTransform: &natsjs.SubjectTransformConfig{Source: names.Appends, Destination: names.AllEvents},
		RePublish:        &natsjs.RePublish{Source: names.AllEvents, Destination: names.AllEvents},
		Storage:          t.storage(), Compression: t.compression(),
		MaxAge: cmp.Or(t.cfg.EventsAge, defaultEventsAge), AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, t.cfg.EventsBytes)
	w.age = t.cfg.EventsAge != 0
	return w
}

func (t topology) dead() wanted {
	w := t.bounded(natsjs.StreamConfig{
		Name: names.DeadStream, Description: "comfyherd: jobs that ended dead, as published",
		Subjects: []string{names.DeadSubjects}, Storage: t.storage(), Compression: t.compression(),
		MaxMsgsPerSubject: mostLetters, MaxAge: cmp.Or(t.cfg.DeadAge, defaultDeadAge), AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, t.cfg.DeadBytes)
	w.age = t.cfg.DeadAge != 0
	return w
}

// live republishes progress that is published in the account of a host. NATS does not deliver messages that came through a service
// import to accounts that import a stream of subjects, but it delivers what a stream republishes. The last message of each kind and
// job is kept for 5 min.
func (t topology) live() wanted {
	return wanted{StreamConfig: natsjs.StreamConfig{
		Name: names.LiveStream, Description: "comfyherd: progress of running jobs of hosts with an account of their own",
		Subjects:         []string{names.Tells},
		SubjectTransform: &natsjs.SubjectTransformConfig{Source: names.Tells, Destination: names.AllLive},
		RePublish:        &natsjs.RePublish{Source: names.AllLive, Destination: names.AllLive},
		Storage:          natsjs.MemoryStorage, MaxMsgsPerSubject: 1, MaxAge: liveAge, MaxMsgs: liveMost, MaxBytes: liveBytes, NoAck: true,
		AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}}
}

// files is the stream of an object store. In COMFY_OUTPUTS the description of a file does not replace that of an earlier file of the
// name: the roll-up that this needs would also let a host's key remove the files of all tenants.
func (t topology) files(store string) wanted {
	byHand := map[string]int64{names.OutputsStore: t.cfg.OutputsBytes, names.InputsStore: t.cfg.InputsBytes}[store]
	w := t.bounded(natsjs.StreamConfig{
		Name: names.StoreStream(store), Description: "comfyherd: " + storeAbout(store), Subjects: []string{names.PartsSubject(store, ">"), names.MetaPrefix(store) + ">"},
		MaxAge: cmp.Or(t.cfg.FilesAge, defaultFilesAge), Storage: t.storage(), AllowRollup: store == names.InputsStore,
		AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, byHand)
	w.age = t.cfg.FilesAge != 0
	if store == names.CatalogStore {
		w.MaxAge, w.age, w.Compression = catalogAge, false, natsjs.S2Compression
	}
	return w
}

// stores are the object stores.
func stores() []string { return []string{names.OutputsStore, names.InputsStore, names.CatalogStore} }

func (t topology) streams(ctx context.Context) error {
	for _, want := range []wanted{t.events(), t.jobs(), t.dead(), t.deliveries(), t.live()} {
		_, err := answered(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, t.stream(ctx, want) })
		if err != nil {
			return err
		}
	}
	return nil
}

// answerTime is how long a step of Open may take before it is tried again.
const answerTime = 2 * time.Second

// answered repeats a step while the server does not answer: a cluster does not answer requests about a stream or consumer that another
// dispatcher is making at the same moment.
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

func (t topology) stream(ctx context.Context, want wanted) error {
	found, err := t.js.Stream(ctx, want.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		if !t.changes() {
			return fmt.Errorf("stream %s is missing: start a dispatcher once, which makes it", want.Name)
		}
		if err := t.newEnough(ctx, want); err != nil {
			return err
		}
		found, err = store(ctx, t.js.CreateStream, want.StreamConfig, least(&want.StreamConfig))
		if err == nil {
			return t.closeWindow(ctx, found)
		}
		if !errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) {
			return wrap(err, "create stream %s", want.Name)
		}
		found, err = streamMade(ctx, t.js, want.Name) // another dispatcher was first, with other settings
	}
	if err != nil || !t.changes() {
		return wrap(err, "look up stream %s", want.Name)
	}
	merged, changed := t.merge(found.CachedInfo(), want)
	if !changed {
		return nil
	}
	found, err = t.change(ctx, found.CachedInfo(), merged)
	if err != nil {
		return wrap(err, "update stream %s", want.Name)
	}
	return t.closeWindow(ctx, found)
}

// newEnough refuses a NATS that is too old for keys with a TTL, by which blocks end: it would ignore that setting of a stream
// without an error.
func (t topology) newEnough(ctx context.Context, want wanted) error {
	if want.SubjectDeleteMarkerTTL == 0 {
		return nil
	}
	info, err := t.js.AccountInfo(ctx)
	if err == nil && info.API.Level < 1 {
		err = natsjs.ErrLimitMarkerTTLNotSupported
	}
	return wrap(err, "create stream %s", want.Name)
}

// closeWindow gives COMFY_JOBS the shortest possible window for duplicates, on a NATS that allows no stream without one.
func (t topology) closeWindow(ctx context.Context, stream natsjs.Stream) error {
	cfg := stream.CachedInfo().Config
	if cfg.Name != names.JobsStream || cfg.Duplicates <= jobsDuplicates {
		return nil
	}
	cfg.Sources, cfg.Duplicates = nil, jobsDuplicates
	_, err := t.js.UpdateStream(ctx, cfg)
	return wrap(err, "update stream %s", cfg.Name)
}

// streamMade looks up a stream that was made, and tries again until ctx ends: not every server of a cluster has it at once.
func streamMade(ctx context.Context, js natsjs.JetStream, name string) (natsjs.Stream, error) {
	for {
		stream, err := js.Stream(ctx, name)
		if !errors.Is(err, natsjs.ErrStreamNotFound) || !Pause(ctx, rewatchPause) {
			return stream, err
		}
	}
}

func (t topology) bucket(name, about string) wanted {
	w := t.bounded(natsjs.StreamConfig{
		Name: names.BucketStream(name), Description: "comfyherd: " + about, Subjects: []string{names.KeySubject(name, ">")},
		MaxMsgsPerSubject: 1, Discard: natsjs.DiscardNew, DenyDelete: true, Duplicates: bucketDuplicates, AllowDirect: true,
		AllowRollup: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: markerTTL,
		Storage: t.storage(), Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, 0)
	return w
}

// withAge makes a bucket one whose keys expire, after the age that the Config gives, or the usual one.
func withAge(w wanted, given, usual time.Duration) wanted {
	w.MaxAge, w.age = cmp.Or(given, usual), given != 0
	w.Duplicates = min(w.Duplicates, w.MaxAge)
	return w
}

// presence makes a bucket one of presences, whose keys expire when they are not renewed.
func (t topology) presence(w wanted) wanted {
	return withAge(w, t.cfg.PresenceTTL, defaultPresenceTTL)
}

// forAgents makes a bucket one that agents write: without roll-ups, by which the owner of one key could remove all others, and so
// without markers for keys that have expired.
func forAgents(w wanted) wanted {
	w.AllowRollup, w.AllowMsgTTL, w.SubjectDeleteMarkerTTL = false, false, 0
	return w
}

func (t topology) buckets() []wanted {
	return []wanted{
		t.bucket(names.WaitingBucket, "tickets of jobs that cannot run yet"),
		t.bucket(names.BlocksBucket, "pairs of host and workflow that are blocked, until when and why"),
		t.bucket(names.StrikesBucket, "failures of a pair since its last success"),
		forAgents(t.presence(t.bucket(names.HostsBucket, "presence of hosts"))),
		t.presence(t.bucket(names.DispatchersBucket, "presence of dispatchers")),
		forAgents(t.bucket(names.CapabilitiesBucket, "what each host can run")),
		forAgents(t.bucket(names.ConditionsBucket, "host states that outlive an agent: who drained it, and why it is unhealthy")),
		t.bucket(names.AffinityBucket, "rules that tie a workflow to hosts"),
		t.bucket(names.TenantsBucket, "weights and caps of tenants"),
		t.bucket(names.SlotsBucket, "jobs that run of tenants with a cap"),
		t.bucket(names.GrantsBucket, grantsAbout),
		t.bucket(names.SecretsBucket, "random bytes that the fleet shares"),
		withAge(t.bucket(names.AssetsBucket, "files that clients of the Comfy API v2 have named"), t.cfg.FilesAge, defaultFilesAge),
		withAge(t.bucket(names.RequestKeysBucket, "keys of requests that were received once"), 0, requestKeyAge),
		t.bucket(names.UserDataBucket, "what ComfyUI's page keeps for tenants: settings, workflows"),
		withAge(t.bucket(names.HiddenBucket, "jobs that tenants have removed from what they see of their history"), t.cfg.EventsAge, defaultEventsAge),
		forAgents(withAge(t.bucket(names.CatalogsBucket, "which files of COMFY_CATALOG describe a host"), 0, catalogAge)),
		t.bucket(names.WebhooksBucket, "addresses to which events are delivered"),
		t.apiKeys(), // last, since it may take all the memory that is left
	}
}

func (t topology) keyValue(ctx context.Context, want wanted) (natsjs.KeyValue, error) {
	if err := t.stream(ctx, want); err != nil {
		return nil, err
	}
	name := names.BucketOf(want.Name)
	kv, err := t.js.KeyValue(ctx, name)
	if errors.Is(err, natsjs.ErrBucketNotFound) && t.changes() && Pause(ctx, rewatchPause) {
		return t.keyValue(ctx, want) // not every server of the cluster has it yet
	}
	return kv, wrap(err, "open bucket %s", name)
}

// grantsAbout describes the bucket of grants.
const grantsAbout = "whose jobs a host may have, and how many"

func (t topology) objects(ctx context.Context, name string) (natsjs.ObjectStore, error) {
	if err := t.stream(ctx, t.files(name)); err != nil {
		return nil, err
	}
	store, err := t.js.ObjectStore(ctx, name)
	if (errors.Is(err, natsjs.ErrBucketNotFound) || errors.Is(err, natsjs.ErrStreamNotFound)) && t.changes() && Pause(ctx, rewatchPause) {
		return t.objects(ctx, name)
	}
	return store, wrap(err, "open object store %s", name)
}

// wrap adds what was tried to an error and, when an operator can do something at the server, what to do; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var api *natsjs.APIError
	switch {
	case !errors.As(err, &api):
	case names.NoRoom(uint16(api.ErrorCode)):
		return fmt.Errorf("%s: %w: %s: %w", what, jetstream.ErrNoSpace, makeRoom, err)
	case api.ErrorCode == names.ReplicasNotSupportedCode:
		return fmt.Errorf("%s: this NATS is a single server, and replicas need a cluster: leave --replicas out: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
