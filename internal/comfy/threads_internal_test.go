package comfy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// sights gives snapshots, one after the other and the last again and again; one without a process is none.
type sights struct {
	all   []Snapshot
	looks int
}

func (s *sights) Read(context.Context) (Snapshot, bool) {
	seen := s.all[min(s.looks, len(s.all)-1)]
	s.looks++
	return seen, seen.Process != ""
}

// saw is a snapshot of process 1, whose main thread is 1, with other threads by how long they were busy.
func saw(busy map[int]time.Duration) Snapshot {
	s := Snapshot{Process: "1", Main: 1, Threads: map[int]Thread{1: {Busy: time.Hour}}}
	for id, d := range busy {
		s.Threads[id] = Thread{Busy: d}
	}
	return s
}

func named(s Snapshot, id int, name string) Snapshot {
	s.Threads[id] = Thread{Name: name, Busy: s.Threads[id].Busy}
	return s
}

// A host whose worker thread is gone gets no job until it is restarted, so that every doubt counts for the thread.
func TestAWorkerIsGoneOnlyWithoutADoubt(t *testing.T) {
	t.Parallel()
	const s = time.Second
	idle, busy := saw(map[int]time.Duration{3: s}), saw(map[int]time.Duration{3: s + 1})
	other := saw(nil)
	other.Process = "2"
	for name, c := range map[string]struct {
		candidates []int // none: no process was seen
		worker     int
		before     Snapshot
		now        []Snapshot
		stopped    bool // while it waits for the second snapshot
		want       bool
		looks      int
	}{
		"NeverSeen":        {worker: 2, now: []Snapshot{idle}},
		"NoCandidates":     {candidates: []int{}, now: []Snapshot{idle}, looks: 1},
		"Unseen":           {candidates: []int{2}, worker: 2, now: []Snapshot{{}}, looks: 1},
		"AnotherProcess":   {candidates: []int{2}, worker: 2, now: []Snapshot{other}, looks: 1},
		"AllAreGone":       {candidates: []int{2, 4}, worker: 2, now: []Snapshot{idle}, want: true, looks: 1},
		"AllOfAnUnknown":   {candidates: []int{2, 4}, now: []Snapshot{idle}, want: true, looks: 1},
		"UnknownAmongSome": {candidates: []int{2, 3}, now: []Snapshot{idle}, looks: 1},
		"Lives":            {candidates: []int{2, 3}, worker: 3, now: []Snapshot{idle}, looks: 1},
		"NoCandidate":      {candidates: []int{3}, worker: 2, now: []Snapshot{idle}, looks: 1},
		"Named":            {candidates: []int{2, 3}, worker: 2, before: named(saw(nil), 2, "Thread-1 (prompt_worker)"), now: []Snapshot{busy}, want: true, looks: 1},
		"OthersAreIdle":    {candidates: []int{2, 3}, worker: 2, now: []Snapshot{idle, idle}, want: true, looks: 2},
		"AnotherIsBusy":    {candidates: []int{2, 3}, worker: 2, now: []Snapshot{idle, busy}, looks: 2},
		"ThenUnseen":       {candidates: []int{2, 3}, worker: 2, now: []Snapshot{idle, {}}, looks: 2},
		"ThenAnother":      {candidates: []int{2, 3}, worker: 2, now: []Snapshot{idle, other}, looks: 2},
		"Stopped":          {candidates: []int{2, 3}, worker: 2, now: []Snapshot{idle, idle}, stopped: true, looks: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &sights{all: c.now}
				th := threads{reader: w, process: "1", worker: c.worker, before: c.before}
				if c.candidates != nil {
					th.candidates = map[int]bool{}
				}
				for _, id := range c.candidates {
					th.candidates[id] = true
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				if c.stopped {
					time.AfterFunc(betweenReads/2, stop)
				}
				if got := th.gone(ctx); got != c.want || w.looks != c.looks {
					t.Errorf("it is gone: %t, after %d looks", got, w.looks)
				}
			})
		})
	}
}

func TestTheWorkerIsFoundByWhatRunsWhilePromptsDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		w := &sights{all: []Snapshot{
			saw(map[int]time.Duration{2: 0, 3: 9 * s, 4: 0}), // before the first prompt
			saw(map[int]time.Duration{2: s, 3: 9 * s, 5: s}), // after it: 4 has ended, and 5 has begun
			saw(map[int]time.Duration{2: s, 3: 9 * s}),
			saw(map[int]time.Duration{2: s, 3: 12 * s}), // after the second
		}}
		th := threads{reader: w}
		expect := func(when string, worker, candidates, looks int) {
			t.Helper()
			if th.worker != worker || len(th.candidates) != candidates || w.looks != looks {
				t.Errorf("%s: the worker is %d of %v after %d looks", when, th.worker, th.candidates, w.looks)
			}
		}
		th.afterPrompt(t.Context(), s)
		expect("without a first look", 0, 0, 0)
		th.beforePrompt(t.Context())
		expect("before the first prompt", 0, 3, 1)
		th.beforePrompt(t.Context())
		expect("before a prompt a moment later", 0, 3, 1)
		th.afterPrompt(t.Context(), 10*time.Millisecond-1)
		expect("after one that was too short", 0, 3, 1)
		th.afterPrompt(t.Context(), 10*time.Millisecond)
		expect("after the first prompt", 2, 2, 2)
		<-time.After(betweenReads)
		th.beforePrompt(t.Context())
		expect("before the second prompt", 2, 2, 3)
		th.afterPrompt(t.Context(), s)
		expect("after the second prompt", 3, 2, 4)
	})
	for name, c := range map[string]struct {
		then   Snapshot
		worker int
		looks  int
	}{
		"Unseen": {Snapshot{}, 3, 2}, "AnotherProcess": {Snapshot{Process: "2", Threads: map[int]Thread{2: {Busy: time.Hour}}}, 3, 2},
		"Named":         {named(saw(map[int]time.Duration{2: time.Hour, 3: 0}), 3, "Thread-1 (prompt_worker)"), 3, 2},
		"NoLongerNamed": {saw(map[int]time.Duration{2: time.Hour, 3: 0}), 2, 2},
	} {
		w := &sights{all: []Snapshot{named(saw(map[int]time.Duration{2: 0, 3: 0}), 3, "Thread-1 (prompt_worker)"), c.then}}
		th := threads{reader: w}
		th.beforePrompt(t.Context())
		if th.afterPrompt(t.Context(), time.Second); th.worker != c.worker || w.looks != c.looks {
			t.Errorf("%s: the worker is %d after %d looks", name, th.worker, w.looks)
		}
	}
}

func TestAnotherProcessHasOtherThreads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		second := Snapshot{Process: "2", Main: 7, Threads: map[int]Thread{7: {}, 8: {}, 9: {}}}
		th := threads{reader: &sights{all: []Snapshot{named(saw(map[int]time.Duration{2: 0}), 2, "Thread-1 (prompt_worker)"), {}, second}}}
		for _, want := range []struct {
			process            string
			worker, candidates int
		}{{"1", 2, 1}, {"1", 2, 1}, {"2", 0, 2}} {
			th.beforePrompt(t.Context())
			if th.process != want.process || th.worker != want.worker || len(th.candidates) != want.candidates {
				t.Errorf("of process %s the worker is %d of %v, want %+v", th.process, th.worker, th.candidates, want)
			}
			<-time.After(betweenReads)
		}
	})
	(&threads{}).beforePrompt(t.Context()) // where nothing can be seen
	for name, want := range map[string]bool{
		"Thread-1 (prompt_worker)": true, "Thread-12 (promp": true, "Thread-1 (pr": true,
		"Thread-1 (p": false, "Thread-1 (": false, "Thread- (prompt_worker)": false, "Thread-1": false,
		"1 (prompt_worker)": false, "Thread-1 (other)": false, "": false,
	} {
		if runsPrompts(name) != want {
			t.Errorf("%q runs prompts: %t", name, !want)
		}
	}
}

// ComfyUI says that a prompt runs, also when its worker thread has ended.
func TestAHostIsSickWhoseWorkerThreadIsGoneBesideAPrompt(t *testing.T) {
	t.Parallel()
	const prompt = `[1,"p",{},{},[]]`
	for name, c := range map[string]struct {
		queue string
		want  failure.Cause
	}{
		"Running": {`{"queue_running":[` + prompt + `],"queue_pending":[]}`, failure.WorkerGone},
		"Waiting": {`{"queue_running":[],"queue_pending":[` + prompt + `]}`, ""},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answers := map[string]string{"/internal/logs/raw": `{"entries":[]}`, "/prompt": `{"exec_info":{"queue_remaining":1}}`, "/queue": c.queue}
			_, _ = w.Write([]byte(answers[r.URL.Path]))
		}))
		t.Cleanup(server.Close)
		h, err := New(server.URL, Options{ProcessReader: &sights{all: []Snapshot{saw(nil)}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		h.threads.process, h.threads.candidates, h.threads.worker = "1", map[int]bool{2: true}, 2
		if reason, cause, err := h.Sick(t.Context()); cause != c.want || (reason != "") != (c.want != "") || err != nil {
			t.Errorf("%s: %s %q, %v", name, cause, reason, err)
		}
	}
}
