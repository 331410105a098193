package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// The latency of an idle queue is that of jobs that come one by one: each is published a moment after the one before has ended.
const (
	idleMost  = 200
	idlePause = 5 * time.Millisecond
	idleTime  = 5 * time.Second // about, of each stage
)

// idleJobs is how many jobs come one by one after the others. It is 0 when they would take long, or would fail.
func idleJobs(cfg *Config) int {
	if cfg.FailureRate > 0 {
		return 0
	}
	return min(idleMost, cfg.Jobs/10, int(idleTime/(cfg.HostTime+idlePause)))
}

// idling gives the load of the jobs that come one by one.
func (l *load) idling() *load {
	idle := *l
	idle.prefix, idle.jobs, idle.later = "i-"+l.run+"-", idleJobs(l.cfg), 0
	return &idle
}

// idleLatency runs the jobs of a load one by one and gives their times from publish to started, as the recorder sees them
// below the prefix of events.
func idleLatency(ctx context.Context, l *load, nc *nats.Conn, r *recorder, publishers []natsjs.JetStream, jobs, events string) (Spread, error) {
	if l.jobs == 0 {
		return Spread{}, nil
	}
	if err := r.follow(nc, events); err != nil {
		return Spread{}, err
	}
	if err := oneByOne(ctx, l, publishers, r, jobs); err != nil {
		return Spread{}, fmt.Errorf("one by one: %w", err)
	}
	return since(r.published, r.started), nil
}

// oneByOne publishes the jobs of a load, each when the one before has ended.
func oneByOne(ctx context.Context, l *load, publishers []natsjs.JetStream, r *recorder, prefix string) error {
	for i := range l.jobs {
		if err := paced(ctx, time.Now(), 1, 1/idlePause.Seconds()); err != nil {
			return err
		}
		r.publish(i)
		if err := send(ctx, publishers[i%len(publishers)], l.message(prefix, i)); err != nil {
			return fmt.Errorf("publish job %d: %w", i, err)
		}
		if err := r.waitFor(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

const rawOffers = "bench.offers."

// serveOffers answers the requests of the four round trips, as an agent answers an offer.
func (r *raw) serveOffers() error {
	nc, err := r.place.bare()
	if err != nil {
		return err
	}
	_, err = nc.Subscribe(rawOffers+"*", func(msg *nats.Msg) {
		if err := msg.Respond(offerAnswer); err != nil {
			r.place.fail(fmt.Errorf("answer %s: %w", msg.Subject, err))
		}
	})
	if err != nil {
		return fmt.Errorf("serve offers: %w", err)
	}
	return nc.Flush()
}

// offerAnswer is as long as the answer to an offer.
var offerAnswer = []byte(`{"answer":"accepted","state":{"host":"bench-0001","instance":"00000000-0000-5000-8000-000000000000","serial":12345,` +
	`"state":"online","slots":1,"prefetch":1,"running":[{"tenant":"tenant-1","job":"b-123456-1234","priority":5,"hash":"` + strings.Repeat("0", 64) +
	`","attempt":1,"since":"2026-01-01T00:00:00.000000000Z"}],"brief":true,"time":"2026-01-01T00:00:00.000000000Z"}}`)

// offer is a request with the body of the job, and a header as long as that of an offer.
func (r *raw) offer(ctx context.Context, nc *nats.Conn, msg natsjs.Msg, id string) error {
	header := nats.Header{
		"Comfy-Job-Id": {id}, "Comfy-Tenant": {"tenant-1"}, "Comfy-Priority": {"5"}, "Comfy-Hash": {strings.Repeat("0", 64)}, "Comfy-Attempt": {"1"},
		"Comfy-Resume": {"false"}, "Comfy-Lease": {msg.Reply()}, "Comfy-Ack-Wait": {"30s"}, "Comfy-Last-Sequence": {"1234"}, "Comfy-Sequence": {"1234"},
		"Comfy-Received": {"2026-01-01T00:00:00.000000000Z"}, "Comfy-Quiet": {"5ms"},
	}
	_, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: rawOffers + strconv.Itoa(len(id)), Data: msg.Data(), Header: header})
	return err
}
