package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// raw sends the messages of all jobs with bare nats.go: publish, deliver, three events in a chain of
// compare-and-set, ack. Nothing is parsed, decided or handed on. For the jobs that come one by one afterwards there is also
// a request before the event started, as the offer.
type raw struct {
	cfg      *Config
	load     *load
	place    *place
	recorder *recorder
	idle     *recorder // of the jobs that come one by one
	delivery *samples  // publish to deliver
}

// RawResult is the limit that NATS itself sets.
type RawResult struct {
	JobsPerSecond    float64 `json:"jobs_per_second"`
	EnqueuePerSecond float64 `json:"enqueue_per_second"`
	PublishToDeliver Spread  `json:"publish_to_deliver"`
	PublishToEnd     Spread  `json:"publish_to_completed"`
	RoundTrips       Spread  `json:"four_round_trips"` // one job on an idle queue: deliver, append, request, append
	CPUPerJob        float64 `json:"cpu_us_per_job"`
	AllocsPerJob     float64 `json:"allocs_per_job"`
	AllocatedPerJob  float64 `json:"allocated_bytes_per_job"`
	HeapBytes        uint64  `json:"heap_bytes"`
	StoredPerJob     float64 `json:"stored_bytes_per_job"`
	DiskPerJob       float64 `json:"disk_bytes_per_job"`
}

func runRaw(ctx context.Context, cfg *Config, l *load) (result RawResult, err error) {
	ctx, p, err := open(ctx, cfg, false)
	if err != nil {
		return RawResult{}, err
	}
	defer func() { err = errors.Join(err, p.tidy(ctx, removeRaw), p.close()) }()
	r := &raw{cfg: cfg, load: l, place: p, recorder: newRecorder(l), idle: newRecorder(l.idling()), delivery: &samples{}}
	publisher, js, err := r.prepare(ctx)
	if err != nil {
		return RawResult{}, err
	}
	if err := r.recorder.follow(publisher, rawEventsPrefix); err != nil {
		return RawResult{}, err
	}
	if err := r.serveOffers(); err != nil {
		return RawResult{}, err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	defer workers.Wait()
	defer stop()
	for range cfg.Dispatchers {
		nc, err := p.bare()
		if err != nil {
			return RawResult{}, err
		}
		workers.Go(func() { r.work(working, nc) })
	}
	defer r.recorder.reporting("raw", cfg.Progress)()
	empty := p.diskBytes()
	before := usageNow()
	rate, err := enqueue(ctx, cfg, l, []natsjs.JetStream{js}, r.recorder, rawJobsPrefix)
	if err != nil {
		return RawResult{}, err
	}
	if err := r.recorder.wait(ctx, "raw"); err != nil {
		return RawResult{}, err
	}
	used := usageNow().since(before)
	if result, err = r.report(ctx, js, rate, used, empty); err != nil {
		return RawResult{}, err
	}
	result.RoundTrips, err = idleLatency(ctx, l.idling(), publisher, r.idle, []natsjs.JetStream{js}, rawJobsPrefix, rawEventsPrefix)
	return result, err
}

func (r *raw) report(ctx context.Context, js natsjs.JetStream, rate float64, used usage, empty int64) (RawResult, error) {
	stored, err := storedBytes(ctx, js, rawEvents)
	if err != nil {
		return RawResult{}, err
	}
	jobs := float64(r.cfg.Jobs)
	return RawResult{
		JobsPerSecond: r.recorder.perSecond(), EnqueuePerSecond: rate, PublishToDeliver: r.delivery.spread(),
		PublishToEnd: since(r.recorder.published, r.recorder.ended),
		CPUPerJob:    float64(used.cpu.Microseconds()) / jobs, AllocsPerJob: float64(used.mallocs) / jobs,
		AllocatedPerJob: float64(used.bytes) / jobs, HeapBytes: liveHeap(), StoredPerJob: float64(stored) / jobs,
		DiskPerJob: float64(r.place.diskBytes()-empty) / jobs,
	}, nil
}

const (
	rawJobs         = "BENCH_JOBS"
	rawEvents       = "BENCH_EVENTS"
	rawJobsPrefix   = "bench.jobs."
	rawEventsPrefix = "bench.events"
	rawDescription  = "comfyherd bench: the raw limit" // description of both streams, by which they are distinguished from others
)

// prepare makes streams and consumers with the settings of the real ones.
func (r *raw) prepare(ctx context.Context) (*nats.Conn, natsjs.JetStream, error) {
	nc, err := r.place.bare()
	if err != nil {
		return nil, nil, err
	}
	js, err := r.place.publisher(nc)
	if err != nil {
		return nil, nil, err
	}
	if err := removeRaw(ctx, js); err != nil {
		return nil, nil, err
	}
	compression := natsjs.NoCompression
	if r.cfg.Compression {
		compression = natsjs.S2Compression
	}
	for _, cfg := range []natsjs.StreamConfig{
		{
			Name: rawJobs, Subjects: []string{"bench.jobs.>"}, Retention: natsjs.WorkQueuePolicy, Discard: natsjs.DiscardNew,
			DiscardNewPerSubject: true, MaxMsgsPerSubject: int64(r.cfg.Jobs),
			Duplicates: 100 * time.Millisecond, AllowDirect: true, Compression: compression, Replicas: r.cfg.Replicas,
		},
		{
			Name: rawEvents, Subjects: []string{"bench.append.>"}, MaxAge: time.Hour, AllowDirect: true,
			SubjectTransform: &natsjs.SubjectTransformConfig{Source: "bench.append.>", Destination: "bench.events.>"},
			RePublish:        &natsjs.RePublish{Source: "bench.events.>", Destination: "bench.events.>"},
			Compression:      compression, Replicas: r.cfg.Replicas,
		},
	} {
		cfg.Description = rawDescription
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			return nil, nil, fmt.Errorf("create stream %s: %w", cfg.Name, err)
		}
	}
	return nc, js, rawConsumers(ctx, js)
}

// removeRaw removes the streams of this stage, also those of a bench that was killed, and no others.
func removeRaw(ctx context.Context, js natsjs.JetStream) error {
	for _, name := range []string{rawJobs, rawEvents} {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		if stream.CachedInfo().Config.Description != rawDescription {
			return fmt.Errorf("this NATS has a stream %s that bench did not make: give bench a NATS of its own, or leave NATS_URL empty", name)
		}
		if err := js.DeleteStream(ctx, name); err != nil {
			return fmt.Errorf("delete stream %s: %w", name, err)
		}
	}
	return nil
}

// rawConsumers makes those of the dispatchers: one for each priority, and one for failed attempts, of which there are none.
func rawConsumers(ctx context.Context, js natsjs.JetStream) error {
	for p := range 10 {
		_, err := js.CreateConsumer(ctx, rawJobs, natsjs.ConsumerConfig{
			Durable: rawConsumer(p), FilterSubject: "bench.jobs.*." + strconv.Itoa(p), AckPolicy: natsjs.AckExplicitPolicy, MaxAckPending: -1,
		})
		if err != nil {
			return fmt.Errorf("create consumer: %w", err)
		}
	}
	_, err := js.CreateConsumer(ctx, rawEvents, natsjs.ConsumerConfig{
		Durable: "bench_failed", FilterSubject: "bench.events.*.*.failed", AckPolicy: natsjs.AckExplicitPolicy,
	})
	if err != nil {
		return fmt.Errorf("create consumer: %w", err)
	}
	return nil
}

func rawConsumer(priority int) string { return "bench_" + strconv.Itoa(priority) }

// work takes jobs and sends their messages, as many at a time as there are hosts to a dispatcher.
func (r *raw) work(ctx context.Context, nc *nats.Conn) {
	js, err := natsjs.New(nc)
	if err != nil {
		r.place.fail(err)
		return
	}
	consumer, err := js.Consumer(ctx, rawJobs, rawConsumer(5))
	if err != nil {
		r.place.fail(err)
		return
	}
	slots := make(chan struct{}, max(1, 2*r.cfg.Hosts*r.cfg.Slots/r.cfg.Dispatchers))
	var walks sync.WaitGroup
	defer walks.Wait()
	for ctx.Err() == nil {
		timed, cancel := context.WithTimeout(ctx, 2*time.Second)
		batch, err := consumer.Fetch(128, natsjs.FetchContext(timed))
		if err != nil {
			cancel()
			continue
		}
		for msg := range batch.Messages() {
			slots <- struct{}{}
			walks.Go(func() {
				defer func() { <-slots }()
				r.walk(ctx, nc, js, msg)
			})
		}
		cancel()
	}
}

// walk ends the stage when an event could not be stored.
func (r *raw) walk(ctx context.Context, nc *nats.Conn, js natsjs.JetStream, msg natsjs.Msg) {
	parts := strings.Split(msg.Subject(), ".")
	id := msg.Headers().Get("Comfy-Job-Id")
	if i, ok := r.recorder.index(id); ok {
		r.delivery.add(time.Duration(r.recorder.now() - r.recorder.published[i].Load()))
	}
	_, offered := r.idle.index(id)
	chain := parts[2] + "." + id + "."
	last := uint64(0)
	for _, kind := range []string{"queued", "started", "completed"} {
		if offered && kind == "started" {
			if err := r.offer(ctx, nc, msg, id); err != nil {
				r.place.fail(fmt.Errorf("offer %s: %w", id, err))
				return
			}
		}
		event := &nats.Msg{Subject: "bench.append." + chain + kind, Data: eventBody[kind], Header: eventHeader(parts[2], id, kind, last)}
		ack, err := js.PublishMsg(ctx, event, natsjs.WithExpectLastSequenceForSubject(last, rawEventsPrefix+"."+chain+"*"))
		if err != nil {
			r.place.fail(fmt.Errorf("NATS did not store %s: %w", event.Subject, err))
			return
		}
		last = ack.Sequence
	}
	if err := msg.Ack(); err != nil {
		r.place.fail(fmt.Errorf("ack %s: %w", id, err))
	}
}

// eventBody is the body of an event of each kind, with fields as long as in real ones.
var eventBody = map[string][]byte{
	"queued": []byte(eventStart + `,"time":"2026-01-01T00:00:00.000000000Z","sequence":1234}`),
	"started": []byte(eventStart + `,"host":"bench-0001","attempt":1,"time":"2026-01-01T00:00:00.000000000Z"` +
		`,"prompt_id":"00000000-0000-5000-8000-000000000000"}`),
	"completed": []byte(eventStart + `,"host":"bench-0001","attempt":1,"time":"2026-01-01T00:00:00.000000000Z"` +
		`,"prompt_id":"00000000-0000-5000-8000-000000000000","queued_for":"123.456789ms","ran_for":"90ns"}`),
}

var eventStart = `{"job":"b-123456-1234","tenant":"tenant-1","priority":5,"hash":"` + strings.Repeat("0", 64) + `"`

// eventHeader has the attributes of CloudEvents that every event carries.
func eventHeader(tenant, id, kind string, last uint64) nats.Header {
	return nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {id + "-" + strconv.FormatUint(last, 10)}, "ce-source": {"agent/bench-0001"},
		"ce-type": {"comfy.job." + kind}, "ce-subject": {tenant + "/" + id}, "ce-time": {"2026-01-01T00:00:00.000000000Z"},
		"Content-Type": {"application/json"},
	}
}

// enqueue publishes all jobs, in a burst or at the rate, and gives how many a second the server took.
//
// The publishers take turns as the tenants do: one is all tenants', or each tenant has one.
func enqueue(ctx context.Context, cfg *Config, l *load, publishers []natsjs.JetStream, r *recorder, prefix string) (float64, error) {
	start := time.Now()
	for i := range l.jobs {
		if err := paced(ctx, start, i, cfg.Rate); err != nil {
			return 0, err
		}
		msg := l.message(prefix, i)
		r.publish(i)
		if err := send(ctx, publishers[i%len(publishers)], msg); err != nil {
			return 0, fmt.Errorf("publish job %d: %w", i, err)
		}
	}
	for _, js := range publishers {
		select {
		case <-js.PublishAsyncComplete():
		case <-ctx.Done():
			return 0, fmt.Errorf("publish jobs: %w", context.Cause(ctx))
		}
	}
	return float64(l.jobs) / time.Since(start).Seconds(), nil
}

// paced waits until it is the i-th job's turn.
func paced(ctx context.Context, start time.Time, i int, rate float64) error {
	if rate <= 0 {
		return context.Cause(ctx)
	}
	wait := time.Until(start.Add(time.Duration(float64(i) / rate * float64(time.Second))))
	if wait <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
