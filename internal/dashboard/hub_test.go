package dashboard_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// told are the events of jobs, job by job, as dispatchers and agents store them.
func told(jobs int, kinds ...job.EventKind) []jetstream.Note {
	var notes []jetstream.Note
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for n := range jobs {
		e := job.Event{
			Job: job.ID(fmt.Sprintf("abcdefghijklmnop%d", n)), Tenant: "acme", Priority: 5, Hash: workflow.Hash(strings.Repeat("0123456789abcdef", 4)), Time: now,
		}
		for _, e.EventKind = range kinds {
			switch e.EventKind {
			case job.Queued:
				e.Sequence, e.Position, e.Bytes, e.Title = uint64(n+1), 1, 2200, "base, image"
			case job.Started:
				e.Sequence, e.Position, e.Bytes, e.Title = 0, 0, 0, ""
				e.Host, e.Attempt, e.PromptID = "gpu-1", 1, "8b0a5a1c-7a51-5c9c-9a57-0c6f2d7f0a11"
			case job.Completed:
				e.Outputs = []job.Output{{
					Node: "9", Media: "images", Filename: "ComfyUI_00001_.png", Type: "output", Object: "acme/" + string(e.Job) + "/9/ComfyUI_00001_.png", Size: 1 << 20,
					Digest: "SHA-256=3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ContentType: "image/png", Thumb: "acme/" + string(e.Job) + "/9/ComfyUI_00001_.png.thumb.jpg",
				}}
				e.CachedNodes, e.QueuedFor, e.RanFor = []string{"4", "5", "6", "7"}, job.Duration(time.Second), job.Duration(3*time.Second)
				e.NodeTimes = map[string]job.Duration{"3": job.Duration(2 * time.Second), "8": job.Duration(time.Second), "9": job.Duration(time.Millisecond)}
			}
			notes = append(notes, jetstream.Note{
				Subject: names.EventSubject(e.Tenant, e.Job, e.EventKind), Body: must(e.Encode()), Sequence: uint64(len(notes) + 1), Time: now,
			})
		}
	}
	return notes
}

// kindsIn are the kinds of the events of a frame, by job.
func kindsIn(t *testing.T, frame string) map[job.ID][]job.EventKind {
	t.Helper()
	_, data, _ := strings.Cut(frame, "data: ")
	var m struct {
		Events []struct {
			Kind  job.EventKind
			Event struct{ Job job.ID }
		}
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		t.Fatalf("%q: %v", frame, err)
	}
	kinds := map[job.ID][]job.EventKind{}
	for _, e := range m.Events {
		kinds[e.Event.Job] = append(kinds[e.Event.Job], e.Kind)
	}
	return kinds
}

// The page shows the newest events as a list, so those are all sent.
func TestOfManyEventsThoseAreLeftOutThatALaterOneReplaces(t *testing.T) {
	t.Parallel()
	all := []job.EventKind{job.Queued, job.Waiting, job.Started, job.Completed}
	h := dashboard.NewHub()
	for _, n := range told(100, all...) {
		h.Take(&n)
	}
	got := kindsIn(t, h.Frame())
	for n := range 100 {
		want := []job.EventKind{job.Queued, job.Completed}
		if n >= 90 { // of the last 40 events
			want = all
		}
		id := job.ID(fmt.Sprintf("abcdefghijklmnop%d", n))
		if diff := cmp.Diff(want, got[id]); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	h = dashboard.NewHub()
	for _, n := range told(50, job.Queued, job.Started) {
		h.Take(&n)
	}
	for id, kinds := range kindsIn(t, h.Frame()) {
		if diff := cmp.Diff([]job.EventKind{job.Queued, job.Started}, kinds); diff != "" {
			t.Errorf("%s runs: %s", id, diff)
		}
	}
}

// BenchmarkHub is the work that the hub does for a viewer in a burst: three events a job come in, and a frame for each 100 jobs goes out.
func BenchmarkHub(b *testing.B) {
	notes := told(100, job.Queued, job.Started, job.Completed)
	h, sequence, sent := dashboard.NewHub(), uint64(0), 0
	for b.Loop() {
		for i := range notes {
			sequence++
			n := notes[i]
			n.Sequence = sequence
			h.Take(&n)
		}
		sent += len(h.Frame())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/job")
	b.ReportMetric(float64(sent)/float64(b.N*100), "B/job")
}
