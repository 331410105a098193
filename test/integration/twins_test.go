package integration_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// written keeps what was logged.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) says(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.text.String(), text)
}

func TestTwoOfOneNameAreComplainedOf(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		jetstream: queue.Config{PresenceTTL: time.Second}, hosts: []comfysim.Config{{Name: "A"}}, noAgents: true,
	})
	var log written
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
			d, err := dispatcher.New(q, dispatcher.Config{Name: "twin", Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			return d.Run
		})
		f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
			a, err := agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: "A", URL: f.sims["A"].URL()}}, Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			return a.Run
		})
	}
	f.eventually("a complaint about the host's name", func() bool { return log.says("another agent serves a host of this name") })
	f.eventually("a complaint about the dispatcher's name", func() bool { return log.says("another dispatcher has this name") })
}

// What the last process of this name left behind is no twin: a restart after a crash is not complained of.
func TestARestartIsNoTwin(t *testing.T) {
	t.Parallel()
	f := start(t, setup{jetstream: queue.Config{PresenceTTL: time.Second}, hosts: []comfysim.Config{{Name: "A"}}, noAgents: true})
	var log written
	logger := slog.New(slog.NewTextHandler(&log, nil))
	begin := func() (kill func()) {
		_, killAgent := f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
			a, err := agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: "A", URL: f.sims["A"].URL()}}, Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			return a.Run
		})
		_, killDispatcher := f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
			d, err := dispatcher.New(q, dispatcher.Config{Name: "one", Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			return d.Run
		})
		return func() { killAgent(); killDispatcher() }
	}
	kill := begin()
	f.awaitPresence(1)
	kill()
	begin()
	serial := func() uint64 {
		hosts, err := f.q.Hosts(f.context())
		if err != nil || len(hosts) == 0 {
			return 0
		}
		return hosts[0].Serial
	}
	f.awaitPresence(1)
	before := serial()
	f.eventually("some heartbeats of the second", func() bool { return serial() > before+2 })
	if log.says("this name") {
		t.Errorf("a restart was taken for a twin:\n%s", &log.text)
	}
}
