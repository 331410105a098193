package comfy

import (
	"context"
	"strings"
	"sync"
	"time"
)

// ProcessReader reads facts about the process of a ComfyUI from the system, without asking ComfyUI.
type ProcessReader interface {
	// Read finds the process that listens on the host's port. ok is false when it cannot be seen: it runs on another
	// machine, in another container, or under another user.
	Read(ctx context.Context) (s Snapshot, ok bool)
}

// Snapshot is what a ProcessReader read of a process at one time.
type Snapshot struct {
	Process string // the same text for the same process, another one for every other
	Main    int    // the id of its main thread
	Threads map[int]Thread
}

// Thread is one thread of a process, by its id.
type Thread struct {
	Name string
	Busy time.Duration // how long it has used a processor so far
}

// threads finds out which thread of a ComfyUI runs its prompts, and whether it has ended. It is among the candidates: the threads
// that existed before each prompt of this process and still do after it. When all of them have ended, the worker thread has ended.
// Python 3.14 and newer give it a name. Otherwise it is taken for the oldest of those that used a processor most while prompts ran;
// when it ends, this counts as the end of the worker thread only if all other candidates use no processor.
type threads struct {
	reader ProcessReader

	mu         sync.Mutex
	process    string
	candidates map[int]bool // nil before the first snapshot of the process
	before     Snapshot     // the newest from before a prompt
	busy       map[int]time.Duration
	worker     int // 0 while it is not known
	seen       time.Time
}

// betweenReads is the least time between two of them: each takes a millisecond or more.
const betweenReads = time.Second

// beforePrompt records which threads there are before a prompt is sent.
func (t *threads) beforePrompt(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil || time.Since(t.seen) < betweenReads {
		return
	}
	s, ok := t.reader.Read(ctx)
	t.seen = time.Now()
	if !ok {
		return
	}
	if s.Process != t.process {
		t.process, t.candidates, t.busy, t.worker = s.Process, nil, map[int]time.Duration{}, 0
	}
	t.before = s
	if t.candidates != nil {
		return
	}
	t.candidates = map[int]bool{}
	for id, thread := range s.Threads {
		if id != s.Main {
			t.candidates[id] = true
		}
		if runsPrompts(thread.Name) {
			t.worker = id
		}
	}
}

// runsPrompts reports whether a thread has the name that Python gives the worker, of which the system keeps 15 letters.
func runsPrompts(name string) bool {
	number, rest, _ := strings.Cut(strings.TrimPrefix(name, "Thread-"), " ")
	return strings.HasPrefix(name, "Thread-") && number != "" && len(rest) > 2 && strings.HasPrefix("(prompt_worker)", rest)
}

// afterPrompt takes in which threads there are after a prompt has ended, and how busy they were.
func (t *threads) afterPrompt(ctx context.Context, ran time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.candidates == nil || len(t.candidates) == 1 && t.worker != 0 || ran < 10*time.Millisecond {
		return
	}
	s, ok := t.reader.Read(ctx)
	if !ok || s.Process != t.process {
		return
	}
	named := runsPrompts(s.Threads[t.worker].Name)
	for id := range t.candidates {
		thread, there := s.Threads[id]
		if !there {
			delete(t.candidates, id)
			continue
		}
		t.busy[id] += thread.Busy - t.before.Threads[id].Busy
	}
	t.before = s
	if !named {
		t.worker = t.busiest()
	}
}

// busiest is the oldest of the candidates that are about as busy as any.
func (t *threads) busiest() int {
	most, worker := time.Duration(0), 0
	for id := range t.candidates {
		most = max(most, t.busy[id])
	}
	for id := range t.candidates {
		if t.busy[id] > 0 && t.busy[id] >= most/2 && (worker == 0 || id < worker) {
			worker = id
		}
	}
	return worker
}

// gone reports whether the worker thread has ended. It is false when that cannot be seen.
func (t *threads) gone(ctx context.Context) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.candidates == nil {
		return false
	}
	first, ok := t.reader.Read(ctx)
	if !ok || first.Process != t.process || len(t.candidates) == 0 {
		return false
	}
	alive := map[int]bool{}
	for id := range t.candidates {
		if _, there := first.Threads[id]; there {
			alive[id] = true
		}
	}
	if len(alive) == 0 {
		return true
	}
	if alive[t.worker] || !t.candidates[t.worker] { // none is a candidate while the worker is not known
		return false
	}
	if runsPrompts(t.before.Threads[t.worker].Name) {
		return true
	}
	if !pause(ctx, betweenReads) {
		return false
	}
	second, ok := t.reader.Read(ctx)
	if !ok || second.Process != t.process {
		return false
	}
	for id := range alive {
		if second.Threads[id].Busy > first.Threads[id].Busy {
			return false // this may be the worker
		}
	}
	return true
}
