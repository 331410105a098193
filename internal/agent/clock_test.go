package agent_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) has(text string) bool { return strings.Contains(l.all(), text) }

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startAhead runs an agent on a machine whose clock is ahead of NATS' by what may change.
func startAhead(t *testing.T, ahead *atomic.Int64, cfg agent.Config) *house {
	t.Helper()
	h := found(t)
	nc, err := nats.Connect(h.nats.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	q, err := queue.Open(h.ctx, nc, queue.Config{
		AckWait: 5 * time.Second, PresenceTTL: 3 * time.Second, Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	h.hire(q, cfg)
	h.run()
	h.online()
	return h
}

func TestTimesOfAnAgentWhoseClockIsWrongAreThoseOfNATS(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	ahead.Store(int64(time.Hour))
	log, registry := &lines{more: make(chan struct{}, 1)}, prometheus.NewRegistry()
	h := startAhead(t, &ahead, agent.Config{Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: registry})
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	before := time.Now().Add(-30 * time.Minute) // NATS' clock is this machine's: half an hour is between right and wrong
	after := before.Add(time.Hour)
	right := func(at time.Time) bool { return at.After(before) && at.Before(after) }
	o := h.queued(job.Spec{ID: "one"})
	r := h.offer(o)
	if off := time.Duration(r.State.ClockOff); off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("the state says that the clock is off by %s", off)
	}
	if !right(r.State.Time) || !right(r.State.Running[0].Since) {
		t.Errorf("the state is of %s and its job has run since %s", r.State.Time, r.State.Running[0].Since)
	}
	close(release)
	if e := h.event(o, job.Completed); !right(e.Time) || !right(h.event(o, job.Started).Time) || time.Duration(e.QueuedFor) > 30*time.Minute {
		t.Errorf("completed is %+v", e)
	}
	for !log.has("clock") {
		await(h, log.more, "a line in the log")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "comfyherd_agent_clock_offset_seconds" {
			if off := f.GetMetric()[0].GetGauge().GetValue(); off < 3540 || off > 3660 {
				t.Errorf("the gauge says %v s", off)
			}
			return
		}
	}
	t.Error("there is no gauge of the clock's offset")
}

func TestAClockThatJumpsEndsNoJob(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	h := startAhead(t, &ahead, agent.Config{})
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one"})
	o.AckWait = time.Second
	extended := h.extensions(o)
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		ahead.Store(int64(jump))
		h.awaitState("gpu", func(s queue.HostState) bool {
			return time.Duration(s.ClockOff).Abs() > time.Hour && s.State == queue.Online && len(s.Running) == 1
		})
		await(h, extended, "an extension after the jump")
	}
	close(release)
	h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
}
