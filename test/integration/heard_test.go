package integration_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
)

// Cancels race with everything a job goes through, so that dispatchers, agents and whoever cancels often append after
// the same event. A plain subscriber hears what was stored, in its order, and nothing of what was refused.
func TestWhatOneHearsWasStored(t *testing.T) {
	t.Parallel()
	const jobs = 200
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}})
	var mu sync.Mutex // guards heard
	var heard []string
	sub, err := f.nc.Subscribe("comfy.events.jobs.>", func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, msg.Header.Get("Nats-Sequence")+" "+msg.Subject+" "+string(msg.Data))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var cancels sync.WaitGroup
	for n := range jobs {
		spec := job.Spec{ID: job.ID(fmt.Sprintf("job-%d", n)), Workflow: sleep(n, 0.05)}
		r := f.submit("acme", spec)
		cancels.Go(func() {
			if await := []job.EventKind{"", job.Queued, job.Started, ""}[n%4]; await != "" {
				for e, err := range f.q.Follow(f.context(), r.Tenant, r.Job) {
					if err != nil || e.EventKind == await {
						break
					}
				}
			}
			if _, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "ops", true); err != nil {
				t.Errorf("cancel job %d: %v", n, err)
			}
			if n%3 == 0 {
				f.submit("acme", spec)
			}
		})
	}
	cancels.Wait()
	f.drained()
	var stored []string
	for note, err := range f.q.Notes(f.context(), "comfy.events.jobs.>", time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, fmt.Sprintf("%d %s %s", note.Sequence, note.Subject, note.Body))
		if note.Pending == 0 {
			break
		}
	}
	f.eventually("all that was stored has been heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) >= len(stored)
	})
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(stored, heard); diff != "" {
		t.Errorf("stored (-) and heard (+): %s", diff)
	}
	ends := map[string]int{}
	for _, text := range heard {
		subject := strings.Fields(text)[1]
		chain, kind := subject[:strings.LastIndexByte(subject, '.')], job.EventKind(subject[strings.LastIndexByte(subject, '.')+1:])
		if ends[chain] > 0 {
			t.Errorf("%s comes after an end", subject)
		}
		if kind.Terminal() {
			ends[chain]++
		}
	}
	if len(ends) != jobs {
		t.Errorf("%d of %d jobs have ended", len(ends), jobs)
	}
}
