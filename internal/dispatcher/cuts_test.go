package dispatcher_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// The times of a story are short, so that more than a thousand of them take seconds.
const (
	storyAckWait     = 2 * time.Second
	storyPresenceTTL = 2 * time.Second
	storyPark        = 6 * time.Second
	storyTimeout     = 3 * time.Minute // until all must have ended, whatever happens
)

// story is what happens to some jobs, and what must have come of it whatever fails meanwhile.
type story struct {
	cfg    dispatcher.Config
	hosts  []string            // that are there at the end
	ends   map[job.ID][]string // the end of each job, with its reason: one of these
	blocks []string            // hosts with a block at the end
	late   []string            // hosts on which a dispatcher that stood still for longer than AckWait may leave a block, which ends by its cooldown
	play   func(s *scene)
}

// fault is an effect of the first dispatcher at which something goes wrong, once.
type fault struct {
	effect string
	nth    int // 1 is the first that reads so
	way    string
	came   bool // the effect was reached, and the fault has happened
}

// The ways in which an effect can go wrong.
const (
	diesBefore = "dies before it"
	diesBehind = "dies behind it"
	fails      = "it fails"
	dropped    = "it is dropped"
	unanswered = "its answer is lost"
	late       = "it is late"
)

func (f *fault) String() string { return fmt.Sprintf("%s #%d: %s", f.effect, f.nth, f.way) }

// TestAStoryEndsAsItMustWhereverItIsCut cuts each story once at each effect of its dispatcher, in each way, and has another
// dispatcher take over from one that has died.
func TestAStoryEndsAsItMustWhereverItIsCut(t *testing.T) {
	t.Parallel()
	for name, told := range stories() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var effects []noted
			inBubble(t, func(s *scene) { effects = told.tell(s, nil) })
			faults := faultsAt(effects)
			if t.Failed() || len(faults) == 0 {
				t.Fatal("it does not end as it must when nothing goes wrong")
			}
			var came atomic.Int64
			t.Cleanup(func() { // only few effects may depend on which of two things happens first
				if n := int(came.Load()); n*10 < len(faults)*9 {
					t.Errorf("it came to %d of %d faults only", n, len(faults))
				}
			})
			for _, f := range faults {
				t.Run(f.String(), func(t *testing.T) {
					t.Parallel()
					inBubble(t, func(s *scene) {
						told.tell(s, &f)
						if f.came {
							came.Add(1)
						}
					})
				})
			}
		})
	}
}

// faultsAt gives all that may go wrong with some effects.
func faultsAt(effects []noted) []fault {
	var faults []fault
	times := map[string]int{}
	for _, e := range effects {
		times[e.what]++
		f := fault{effect: e.what, nth: times[e.what]}
		if e.what == "pull" || f.nth > 2 {
			continue
		}
		for _, f.way = range waysOf(e) {
			faults = append(faults, f)
		}
	}
	return faults
}

func waysOf(e noted) []string {
	verb, _, _ := strings.Cut(e.what, " ")
	switch {
	case !e.write:
		return []string{fails}
	case slices.Contains([]string{"ack", "extend", "park"}, verb): // NATS does not confirm these
		return []string{diesBefore, diesBehind, dropped, late}
	}
	return []string{diesBefore, diesBehind, fails, unanswered, late}
}

// tell plays the story with a fault, and gives the effects of its first dispatcher until all has ended.
func (told *story) tell(s *scene, f *fault) []noted {
	s.ackWait, s.presenceTTL = storyAckWait, storyPresenceTTL
	cfg := told.cfg
	cfg.Name, cfg.Park = "first", storyPark
	fired := make(chan struct{})
	s.start(cfg, f.cut(s, fired))
	first := s.wire
	if f != nil {
		go s.takeOver(cfg, f, fired)
	}
	synctest.Wait()
	told.play(s)
	for begun := time.Now(); !told.over(s) && time.Since(begun) < storyTimeout; {
		s.pass(time.Second)
	}
	s.mu.Lock()
	effects := slices.Clone(first.mine)
	s.mu.Unlock()
	s.pass(2*storyAckWait + storyPresenceTTL) // what is kept for an offer without an answer is free by then
	told.check(s, f != nil && f.way == late)
	return effects
}

// cut gives the fault of the first dispatcher's connection; fired is closed when it happens.
func (f *fault) cut(s *scene, fired chan struct{}) func(effect string) error {
	if f == nil {
		return nil
	}
	seen := 0
	return func(effect string) error {
		s.mu.Lock()
		if effect == f.effect {
			seen++
		}
		now := effect == f.effect && seen == f.nth
		f.came = f.came || now
		s.mu.Unlock()
		if !now {
			return nil
		}
		close(fired)
		switch f.way {
		case diesBefore:
			return errDies
		case diesBehind:
			return errDiesAfter
		case dropped:
			return errDropped
		case unanswered:
			return errUnheard
		case late:
			goBy(storyAckWait + 2*time.Second)
			return nil
		}
		return errCut
	}
}

// takeOver starts another dispatcher when the first has died, or stands still.
func (s *scene) takeOver(cfg dispatcher.Config, f *fault, fired <-chan struct{}) {
	done := make(chan struct{})
	s.atEnd(func() { close(done) })
	over := s.over
	select {
	case <-fired:
	case <-done:
		return
	}
	switch f.way {
	case diesBefore, diesBehind:
		<-over
	case late:
	default:
		return
	}
	cfg.Name = "second"
	s.start(cfg, nil)
}

// over reports whether nothing is left to be done.
func (told *story) over(s *scene) bool {
	for id := range told.ends {
		if !s.ended(id) {
			return false
		}
	}
	taken, _ := queue.SlotsOf(s.get(names.SlotsBucket, "acme"))
	return s.left() == 0 && len(s.tickets()) == 0 && len(taken) == 0 && s.unsettled() == 0
}

func (s *scene) unsettled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.settles.lent)
}

// check fails for what must not be, whatever fault there was.
func (told *story) check(s *scene, stoodStill bool) {
	for id, ends := range told.ends {
		s.checkEnd(id, ends)
	}
	s.want("jobs in the stream", s.left(), 0)
	s.want("tickets", len(s.tickets()), 0)
	s.want("failures that are not settled", s.unsettled(), 0)
	taken, _ := queue.SlotsOf(s.get(names.SlotsBucket, "acme"))
	s.want("slots of acme", len(taken), 0)
	var blocked []string
	s.mu.Lock()
	for key, c := range s.bucket(names.BlocksBucket).keys {
		host, _, _ := queue.PairOf(key)
		if c.Phase == queue.Put && (!stoodStill || !slices.Contains(told.late, host)) {
			blocked = append(blocked, host)
		}
	}
	s.mu.Unlock()
	slices.Sort(blocked)
	s.want("blocked hosts", blocked, told.blocks)
	for _, host := range told.hosts {
		id := job.ID("probe-" + host)
		s.submit(id, func(spec *job.Spec) { spec.Workflow, spec.OnlyHosts = graph(99), []string{host} })
		s.pass(time.Second)
		s.want("a job for "+host+" at the end", s.story(id), "queued started completed")
	}
	if s.t.Failed() {
		happened := slices.DeleteFunc(s.done(""), func(e string) bool { return e == "pull" })
		s.t.Logf("what has happened:\n%s", strings.Join(happened[:min(len(happened), 60)], "\n"))
	}
}

// checkEnd wants one end of a job, the right one, no attempt twice, and a dead letter exactly when it is dead.
func (s *scene) checkEnd(id job.ID, ends []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := s.chain("acme", id)
	attempt, terminal := 0, 0
	for _, link := range chain {
		if link.EventKind == job.Started && link.Attempt <= attempt {
			s.t.Errorf("attempt %d of %s begins behind attempt %d", link.Attempt, id, attempt)
		}
		if link.EventKind == job.Started {
			attempt = link.Attempt
		}
		if link.EventKind.Terminal() {
			terminal++
		}
	}
	if terminal != 1 {
		s.t.Errorf("job %s has %d ends, want one: %v", id, terminal, kindsOf(chain))
		return
	}
	last := chain[len(chain)-1]
	end := strings.TrimSuffix(string(last.EventKind)+":"+last.Reason, ":")
	if !slices.Contains(ends, end) {
		s.t.Errorf("job %s ended as %s, want %s: %v", id, end, strings.Join(ends, " or "), kindsOf(chain))
	}
	letters := 0
	for _, l := range slices.Collect(maps.Values(s.letters)) {
		if l.Job == id {
			letters++
		}
	}
	if dead := last.EventKind == job.Dead; letters > 1 || dead != (letters == 1) {
		s.t.Errorf("job %s, %s, has %d dead letters", id, end, letters)
	}
}

func kindsOf(chain []queue.Link) []job.EventKind {
	kinds := make([]job.EventKind, len(chain))
	for i := range chain {
		kinds[i] = chain[i].EventKind
	}
	return kinds
}

// await lets time pass until something is so, for two minutes at most.
func (s *scene) await(is func() bool) {
	for begun := time.Now(); !is() && time.Since(begun) < 2*time.Minute; {
		s.pass(50 * time.Millisecond)
	}
}

func (s *scene) ended(id job.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := s.chain("acme", id)
	return len(chain) > 0 && chain[len(chain)-1].EventKind.Terminal()
}

// awaitEvent lets time pass until a job's chain has an event of a kind.
func (s *scene) awaitEvent(id job.ID, kind job.EventKind) {
	s.await(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(kindsOf(s.chain("acme", id)), kind)
	})
}

// awaitTickets lets time pass until so many tickets stand.
func (s *scene) awaitTickets(n int) { s.await(func() bool { return len(s.tickets()) == n }) }

// insist repeats a call until it is answered, as a caller does whose dispatcher has died or who got an error.
func (s *scene) insist(ask func() error) {
	err := errors.New("not asked")
	s.await(func() bool {
		err = ask()
		return err == nil
	})
	if err != nil {
		s.t.Errorf("it is not answered for two minutes: %v", err)
	}
}
