package comfy

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Witness sees facts about the process of a ComfyUI without asking ComfyUI.
type Witness interface {
	// Look finds the process that listens on the host's port. ok is false when it cannot be seen: it runs on another
	// machine, in another container, or under another user.
	Look(ctx context.Context) (s Sighting, ok bool)
}

// Sighting is one look at a process.
type Sighting struct {
	Process string // the same text for the same process, another one for every other
	Main    int    // the id of its main thread
	Threads map[int]Thread
}

// Thread is one thread of a process, by its id.
type Thread struct {
	Name string
	Busy time.Duration // how long it has used a processor so far
}

// threads knows which thread of a ComfyUI runs its prompts. That one was there before each prompt of ours began and
// still there when it had ended, so that it is among those of which that is true (candidates); when all of them are
// gone, it is. Python 3.14 and newer name it. Where several are left, it is the oldest of those that used a processor
// most while prompts of ours ran; that one's end is believed only when all other candidates stand still.
type threads struct {
	witness Witness

	mu         sync.Mutex
	process    string
	candidates map[int]bool // nil before the first sighting of the process
	before     Sighting     // the newest from before a prompt
	busy       map[int]time.Duration
	worker     int // 0 while it is not known
	seen       time.Time
}

// sightings are at least so far apart: one takes a millisecond and more.
const betweenSightings = time.Second

// prompts notes which threads there are before a prompt is sent.
func (t *threads) beforePrompt(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.witness == nil || time.Since(t.seen) < betweenSightings {
		return
	}
	s, ok := t.witness.Look(ctx)
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

// runsPrompts knows the name that Python gives the thread, of which the system keeps 15 letters.
func runsPrompts(name string) bool {
	number, rest, _ := strings.Cut(strings.TrimPrefix(name, "Thread-"), " ")
	return strings.HasPrefix(name, "Thread-") && number != "" && len(rest) > 2 && strings.HasPrefix("(prompt_worker)", rest)
}

// ended learns from a prompt that came to its end.
func (t *threads) afterPrompt(ctx context.Context, ran time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.candidates == nil || len(t.candidates) == 1 && t.worker != 0 || ran < 10*time.Millisecond {
		return
	}
	s, ok := t.witness.Look(ctx)
	if !ok || s.Process != t.process {
		return
	}
	named := t.worker != 0 && runsPrompts(s.Threads[t.worker].Name)
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

// gone says that the thread has ended. Nothing is claimed without the facts.
func (t *threads) gone(ctx context.Context) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.candidates == nil {
		return false
	}
	first, ok := t.witness.Look(ctx)
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
	if t.worker == 0 || alive[t.worker] || !t.candidates[t.worker] {
		return false
	}
	if runsPrompts(t.before.Threads[t.worker].Name) {
		return true
	}
	if !pause(ctx, betweenSightings) {
		return false
	}
	second, ok := t.witness.Look(ctx)
	if !ok || second.Process != t.process {
		return false
	}
	for id := range alive {
		if second.Threads[id].Busy > first.Threads[id].Busy {
			return false // it may be the one
		}
	}
	return true
}
