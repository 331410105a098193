package comfy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// seen is what a ProcessReader reads: how busy each thread is besides the main one, which is 1.
type seen struct {
	process string // empty: nothing is seen
	busy    map[int]time.Duration
	names   map[int]string
}

// shownThreads shows one thing after the other, and the last one again and again.
type shownThreads struct {
	shows []seen
	looks int
}

func (w *shownThreads) Read(context.Context) (comfy.Snapshot, bool) {
	now := w.shows[min(w.looks, len(w.shows)-1)]
	w.looks++
	s := comfy.Snapshot{Process: now.process, Main: 1, Threads: map[int]comfy.Thread{1: {Busy: time.Hour}}}
	for id, busy := range now.busy {
		s.Threads[id] = comfy.Thread{Busy: busy, Name: now.names[id]}
	}
	return s, now.process != ""
}

func TestTheWorkerThreadIsKnownByItsNameOrItsWork(t *testing.T) {
	t.Parallel()
	type busy = map[int]time.Duration
	idle := seen{"p", busy{2: 0, 3: 0}, nil}
	named := seen{"p", busy{2: 0, 3: 0}, map[int]string{2: "Thread-1 (promp", 3: "Thread-2 (other"}}
	worked := seen{"p", busy{2: 500 * time.Millisecond, 3: 10 * time.Millisecond}, nil}
	only3 := seen{"p", busy{3: 10 * time.Millisecond}, nil}
	for name, c := range map[string]struct {
		shows []seen
		ran   time.Duration // 0: no prompt has ended
		want  bool
		looks int
	}{
		"AllHaveEnded":          {[]seen{idle, {"p", nil, nil}}, 0, true, 2},
		"TheNamedOneHasEnded":   {[]seen{named, only3}, 0, true, 2},
		"TheNamedOneIsThere":    {[]seen{named, {"p", busy{2: 0}, nil}}, 0, false, 2},
		"TheBusyOneHasEnded":    {[]seen{idle, worked, only3, only3}, time.Second, true, 4},
		"TheBusyOneIsThere":     {[]seen{idle, worked, {"p", busy{2: 0}, nil}}, time.Second, false, 3},
		"AnotherIsBusyNow":      {[]seen{idle, worked, only3, {"p", busy{3: 11 * time.Millisecond}, nil}}, time.Second, false, 4},
		"NoPromptHasEnded":      {[]seen{idle, only3}, 0, false, 2},
		"ThePromptWasTooQuick":  {[]seen{idle, only3}, 9 * time.Millisecond, false, 2},
		"ThePromptWasQuick":     {[]seen{idle, worked, only3}, 10 * time.Millisecond, true, 4},
		"AnotherProcess":        {[]seen{idle, {"q", nil, nil}}, 0, false, 2},
		"NothingIsSeen":         {[]seen{idle, {}}, 0, false, 2},
		"NothingWasSeenBefore":  {[]seen{{}, {"p", nil, nil}}, 0, false, 1},
		"AnotherProcessAfter":   {[]seen{idle, {"q", worked.busy, nil}, only3}, time.Second, false, 3},
		"AnotherSecondProcess":  {[]seen{idle, worked, only3, {"q", busy{3: 0}, nil}}, time.Second, false, 4},
		"NothingIsSeenTheAgain": {[]seen{idle, worked, only3, {}}, time.Second, false, 4},
		"NoThreadBesidesMain":   {[]seen{{"p", nil, nil}, {"p", nil, nil}}, 0, false, 2},
		// The oldest of those that are at least half as busy as the busiest.
		"OldestHalfAsBusy":     {[]seen{idle, {"p", busy{2: 250 * time.Millisecond, 3: 500 * time.Millisecond}, nil}, only3}, time.Second, true, 4},
		"OldestLessThanHalf":   {[]seen{idle, {"p", busy{2: 249 * time.Millisecond, 3: 500 * time.Millisecond}, nil}, only3}, time.Second, false, 3},
		"BusySinceThePrompt":   {[]seen{{"p", busy{2: time.Hour, 3: 0}, nil}, {"p", busy{2: time.Hour, 3: time.Second}, nil}, {"p", busy{2: time.Hour}, nil}}, time.Second, true, 4},
		"NewThreadsDoNotCount": {[]seen{idle, {"p", busy{3: 0, 4: time.Second}, nil}, {"p", busy{4: 0}, nil}}, time.Second, true, 3},
		"OneHasEndedBefore":    {[]seen{idle, {"p", busy{3: time.Second}, nil}, {"p", busy{2: 0}, nil}}, time.Second, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &shownThreads{shows: c.shows}
				all := comfy.NewThreads(w)
				all.Before(t.Context())
				if c.ran > 0 {
					all.After(t.Context(), c.ran)
				}
				same(t, "gone", all.Gone(t.Context()), c.want)
				same(t, "looks", w.looks, c.looks)
			})
		})
	}
}

func TestAProcessIsLookedAtOnceASecondAndAnewAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &shownThreads{shows: []seen{{"p", map[int]time.Duration{2: 0}, nil}, {"q", map[int]time.Duration{2: 0, 3: 0}, nil}, {"q", map[int]time.Duration{3: 0}, nil}}}
		all := comfy.NewThreads(w)
		all.Before(t.Context())
		pass(time.Second - 1)
		all.Before(t.Context())
		same(t, "looks", w.looks, 1)
		pass(1)
		all.Before(t.Context())
		same(t, "looks", w.looks, 2)
		same(t, "gone", all.Gone(t.Context()), false) // 3 is a candidate of the new process
	})
	synctest.Test(t, func(t *testing.T) {
		w := &shownThreads{shows: []seen{{"p", map[int]time.Duration{2: 0}, nil}, {"p", map[int]time.Duration{2: 0, 3: 0}, nil}, {"p", map[int]time.Duration{3: 0}, nil}}}
		all := comfy.NewThreads(w)
		all.Before(t.Context())
		pass(time.Second)
		all.Before(t.Context())
		same(t, "gone", all.Gone(t.Context()), true) // 3 began after the first reading, and is no candidate
	})
}

func TestTheWorkersNameIsReadFromItsFirstLetters(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Thread-1 (promp": true, "Thread-12 (prom": true, "Thread-1 (prompt_worker)": true, "Thread-12345 (p": false, "Thread-1234 (pr": true,
		"Thread-1 (other": false, "Thread- (promp": false, "Thread-1": false, "python": false, "": false, "1 (prompt": false,
	} {
		if comfy.RunsPrompts(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
