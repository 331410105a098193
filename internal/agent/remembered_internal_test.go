package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestEachPromptThatMayStillRunIsRememberedOnceAndNotTooMany(t *testing.T) {
	t.Parallel()
	var o orphans
	if got := o.all(); got != nil {
		t.Errorf("of none %q are remembered", got)
	}
	o.add("a", "b", "a")
	o.add("b", "c")
	kept := o.all()
	o.remove("b")
	o.remove("none")
	if got := o.all(); !slices.Equal(got, []string{"a", "c"}) || !slices.Equal(kept, []string{"a", "b", "c"}) {
		t.Errorf("%q are remembered, and were %q before", got, kept)
	}
	for i := range maxOrphans + 5 {
		o.add(fmt.Sprint(i))
	}
	if got := o.all(); len(got) != maxOrphans || got[0] != "a" {
		t.Errorf("%d are remembered, the first is %s", len(got), got[0])
	}
}

// An agent of a later version may have stored a cause that this one has no probe for, and which it could never end.
func TestAnAgentGoesOnWithWhatAnEarlierOneHasStored(t *testing.T) {
	t.Parallel()
	for cause, kept := range map[failure.Cause]bool{failure.Poisoned: true, "of_a_later_version": false, "": false} {
		h := &host{log: slog.New(slog.DiscardHandler), admission: newAdmission(queue.HostState{}, nil)}
		h.admission.conditions = nil
		h.adopt(queue.HostCondition{
			Drained: true, DrainedBy: "ann", Cause: cause, Reason: "why", Trial: true, Process: "7", Prompts: []string{"a"}, Blame: &queue.Blame{Job: "one"},
		})
		got := h.admission.condition()
		if !got.Drained || got.DrainedBy != "ann" || !slices.Equal(h.orphans.all(), []string{"a"}) {
			t.Errorf("%q: it goes on with %+v and the prompts %q", cause, got, h.orphans.all())
		}
		if !kept && got.Cause != "" || kept && (got.Cause != cause || got.Reason != "why" || !got.Trial || got.Process != "7" || got.Blame.Job != "one") {
			t.Errorf("%q: it goes on with %+v", cause, got)
		}
	}
}

// recorded is a ComfyUI that is asked for the records of runs.
type recorded struct {
	ComfyUI
	asked  int
	record string
	err    error
}

func (r *recorded) Record(context.Context, string) ([]byte, error) {
	r.asked++
	if r.record == "" {
		return nil, r.err
	}
	return []byte(r.record), r.err
}

func TestARecordIsReadOfRunsOfWhichComfyUIHasOne(t *testing.T) {
	t.Parallel()
	ends := map[string]error{"": nil, "stopped": agentStopping{}}
	for _, kind := range failure.Kinds() {
		ends[string(kind)] = failure.New(kind, "no")
	}
	unrecorded := []failure.Kind{
		failure.HostLost, failure.HostSick, failure.Refused, failure.Lost, failure.RejectedBusy, failure.Incapable, failure.InvalidWorkflow,
	}
	read := func(ctx context.Context, r *recorded, wanted bool, secrets []string, end error) string {
		h := &host{comfy: r, log: slog.New(slog.DiscardHandler)}
		a := &attempt{run: &run{}, job: &job.Job{Spec: job.Spec{Record: wanted}}}
		h.readRecord(ctx, a, secrets, end)
		return a.record
	}
	for name, end := range ends {
		r, want := &recorded{record: "{}"}, "{}"
		if slices.Contains(unrecorded, failure.Kind(name)) {
			want = ""
		}
		if got := read(t.Context(), r, true, nil, end); got != want || r.asked != len(want)/2 {
			t.Errorf("after %q the record is %q, and ComfyUI was asked %d times", name, got, r.asked)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context //nolint:containedctx // of one case
		r      recorded
		wanted bool
		want   string
	}{
		"Unwanted": {t.Context(), recorded{record: "{}"}, false, ""}, "Stopped": {gone, recorded{record: "{}"}, true, ""},
		"None": {t.Context(), recorded{}, true, ""}, "Broken": {t.Context(), recorded{record: "{", err: errors.New("it broke off")}, true, ""},
		"Secret": {t.Context(), recorded{record: "the k3y-of-acme"}, true, "the [extra_data]"},
	} {
		if got := read(c.ctx, &c.r, c.wanted, []string{"k3y-of-acme"}, nil); got != c.want {
			t.Errorf("%s: the record is %q, want %q", name, got, c.want)
		}
	}
}

func TestWhatARunReadsOfItsJobsEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		event             job.Event
		ended, superseded bool
	}{
		"CancelledByOthers":    {job.Event{EventKind: job.Cancelled}, true, false},
		"CompletedElsewhere":   {job.Event{EventKind: job.Completed, PromptID: "b"}, true, false},
		"CompletedByItself":    {job.Event{EventKind: job.Completed, PromptID: "a"}, false, false},
		"StartedByItself":      {job.Event{EventKind: job.Started, Attempt: 2, PromptID: "a"}, false, false},
		"StartedBefore":        {job.Event{EventKind: job.Started, Attempt: 1, PromptID: "b"}, false, false},
		"StartedElsewhereThen": {job.Event{EventKind: job.Started, Attempt: 3, PromptID: "b"}, false, true},
		"Retrying":             {job.Event{EventKind: job.Retrying, Attempt: 3}, false, false},
	} {
		var why error
		r := newRun(&queue.Offer{Job: "one", Attempt: 2}, "a", time.Time{}, func(err error) { why = err })
		r.apply(c.event)
		_, ended := errors.AsType[*jobEnded](why)
		if ended != c.ended || r.superseded.Load() != c.superseded {
			t.Errorf("%s: it must stop: %t, by %v; another has its lease: %t", name, ended, why, r.superseded.Load())
		}
	}
}

// An attempt that is resumed draws the same seeds.
func TestSeedsDependOnThePromptAndTheirOrder(t *testing.T) {
	t.Parallel()
	const prompt, other = "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "6ba7b811-9dad-41d1-80b4-00c04fd430c8"
	draw := func(prompt string) (seeds [3]uint64) {
		a := &attempt{run: &run{prompt: prompt}}
		for i := range seeds {
			seeds[i] = a.drawSeed()
		}
		return seeds
	}
	first := draw(prompt)
	if first != draw(prompt) || first == draw(other) || first[0] == first[1] || first[1] == first[2] || first[0] == first[2] {
		t.Errorf("the seeds are %v, then %v, and %v of another prompt", first, draw(prompt), draw(other))
	}
	for _, seed := range first {
		if seed >= 1<<32 {
			t.Errorf("seed %d is larger than most nodes take", seed)
		}
	}
}

func TestAPreviewThatIsLargeMakesNoSmallPicture(t *testing.T) {
	t.Parallel()
	var l live
	l.shown = time.Now().Add(time.Hour) // nothing is published
	for _, size := range []int{10, mostLast, mostLast + 1} {
		l.preview("image/png", make([]byte, size))
	}
	if len(l.last) != mostLast {
		t.Errorf("a preview of %d bytes is kept, want one of %d", len(l.last), mostLast)
	}
}

func TestMetricsThatAreThereAlreadyAreAnError(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	if err := DescribeMetrics(registry); err != nil {
		t.Fatal(err)
	}
	if err := newMetrics().register(registry); err == nil {
		t.Error("metrics were registered twice")
	}
	if err := newMetrics().register(nil); err != nil {
		t.Errorf("without a registry: %v", err)
	}
}
