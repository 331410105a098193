package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// scene is a NATS in memory with hosts and dispatchers in a bubble, whose time passes when nothing else happens.
type scene struct {
	*memory
	t     *testing.T
	begun time.Time
	serve map[string]queue.HostState // of hosts that beat
	crash map[string]func()          // end agents
	ends  []func()                   // guarded by mu
	stop  func()                     // asks the dispatcher that was started last to end
	over  <-chan struct{}            // closed when it has
	ready func() (bool, string)      // of it
	main  *dispatcher.Dispatcher
	wire  *memory // of it
}

// inBubble plays a scene and ends all that it started.
func inBubble(t *testing.T, play func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{memory: newMemory(), t: t, begun: time.Now(), serve: map[string]queue.HostState{}, crash: map[string]func(){}}
		defer s.close()
		play(s)
	})
}

// atEnd has something end with the scene.
func (s *scene) atEnd(end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, end)
}

// close ends all that was started.
func (s *scene) close() {
	s.mu.Lock()
	ends := s.ends
	s.mu.Unlock()
	for _, end := range ends {
		end()
	}
}

// dispatcher starts one that is ready, and gives what kills it.
func (s *scene) dispatcher(cfg dispatcher.Config) (kill func()) {
	s.t.Helper()
	kill = s.start(cfg, nil)
	goBy(s.hostsLater)
	synctest.Wait()
	if ready, why := s.ready(); !ready {
		s.t.Fatalf("the dispatcher is not ready: %s", why)
	}
	return kill
}

// start starts one with a fault in its wire, which may be nil, and does not wait for it.
func (s *scene) start(cfg dispatcher.Config, fault func(effect string) error) (kill func()) {
	s.t.Helper()
	if cfg.Name == "" {
		cfg.Name = "me"
	}
	if os.Getenv("COMFYHERD_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	wire := s.connect()
	wire.end, wire.fault = cancel, fault
	d, err := dispatcher.NewOn(wire, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	stopping, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	s.stop, s.over, s.ready, s.main, s.wire = stop, over, d.Ready, d, wire
	go func() {
		defer close(over)
		if err := d.Run(stopping, ctx); err != nil {
			s.t.Errorf("the dispatcher ended: %v", err)
		}
	}()
	kill = func() { stop(); cancel(); <-over }
	s.atEnd(kill)
	return kill
}

// host is online with a slot from now on, and its agent answers offers.
func (s *scene) host(name string, agent func(*queue.Offer) (queue.Reply, error)) {
	s.mu.Lock()
	s.agents[name] = agent
	s.mu.Unlock()
	s.beat(queue.HostState{Host: name, Instance: "i", Serial: 1, State: queue.Online, Slots: 1, Time: s.Now()})
}

// beat renews a presence until the scene ends, or another is given for the host.
func (s *scene) beat(state queue.HostState) {
	ctx, cancel := context.WithCancel(context.Background())
	s.atEnd(cancel)
	s.mu.Lock()
	if was := s.serve[state.Host]; was.Instance == state.Instance && was.Serial > state.Serial {
		s.mu.Unlock()
		return // a newer one was told meanwhile
	}
	s.serve[state.Host] = state
	s.mu.Unlock()
	put := func() bool {
		s.mu.Lock()
		newest := s.serve[state.Host]
		s.mu.Unlock()
		if newest.Instance != state.Instance || newest.Serial != state.Serial {
			return false
		}
		value, err := json.Marshal(&state)
		if err != nil {
			panic(err)
		}
		s.set(names.HostsBucket, state.Host, value, -1)
		return true
	}
	put()
	go func() {
		for {
			timer := time.NewTimer(s.presenceTTL / 3)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			if !put() {
				return
			}
		}
	}()
}

// can says which classes of nodes a host has.
func (s *scene) can(host string, classes ...string) {
	s.t.Helper()
	var knows workflow.CapabilityBuilder
	for _, class := range classes {
		knows.AddClass(class)
	}
	value, err := workflow.NewCapability(&knows).MarshalBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(names.CapabilitiesBucket, host, value, -1)
}

// accepts takes every job, begins it and lets it run for ever.
func (s *scene) accepts(host string) func(*queue.Offer) (queue.Reply, error) {
	serial := uint64(1)
	return func(o *queue.Offer) (queue.Reply, error) {
		if !o.Resume {
			s.goOn(o.Job, job.Started, func(e *job.Event) { e.Host, e.Attempt = host, o.Attempt })
		}
		serial++
		state := queue.HostState{
			Host: host, Instance: "i", Serial: serial, State: queue.Online, Slots: 1, Time: s.Now(),
			Running: []queue.RunningJob{{Tenant: job.Tenant(o.Message.Tenant), Job: o.Job, Hash: o.Hash, Attempt: o.Attempt, Since: s.Now()}},
		}
		s.beat(state)
		return queue.Reply{Answer: queue.Accepted, State: state.Abridged()}, nil
	}
}

// silent never answers.
func silent(*queue.Offer) (queue.Reply, error) {
	goBy(2 * time.Second)
	return queue.Reply{}, queue.ErrNoAnswer
}

// goOn appends an event to the end of a chain, as another process does.
func (s *scene) goOn(id job.ID, kind job.EventKind, edit ...func(*job.Event)) uint64 {
	s.t.Helper()
	s.mu.Lock()
	chain := s.chain("acme", id)
	s.mu.Unlock()
	e := job.Event{EventKind: kind, Job: id, Tenant: "acme", Priority: job.Usual, Time: s.Now()}
	last := uint64(0)
	if n := len(chain); n > 0 {
		last = chain[n-1].ChainSequence
		e.Sequence, e.Hash = chain[0].Sequence, chain[0].Hash
	}
	for _, change := range edit {
		change(&e)
	}
	sequence, err := s.Append(context.Background(), &e, last, "", "")
	if err != nil {
		s.t.Errorf("%s of %s: %v", kind, id, err)
	}
	return sequence
}

// graph is a workflow of its own kind for each number.
func graph(n int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"EmptyImage%d","inputs":{"width":64,"height":64,"batch_size":1,"color":1}},`+
		`"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"a"}}}`, n))
}

func hashOf(t *testing.T, n int) workflow.Hash {
	t.Helper()
	g, err := workflow.Parse(graph(n))
	if err != nil {
		t.Fatal(err)
	}
	return g.Hash()
}

// submit publishes a job of tenant acme and gives its sequence.
func (s *scene) submit(id job.ID, edit ...func(*job.Spec)) uint64 {
	s.t.Helper()
	return s.submitAs("acme", job.Usual, id, edit...)
}

// pass lets time go by, and then all that follows from it.
func (s *scene) pass(d time.Duration) {
	goBy(d)
	synctest.Wait()
}

// tickets are the sequences of the tickets that stand.
func (s *scene) tickets() []queue.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []queue.Ticket
	for _, c := range s.bucket(names.WaitingBucket).keys {
		if c := decoded(c, queue.TicketOf); c.Phase == queue.Put {
			all = append(all, c.Value)
		}
	}
	return all
}

// left is how many jobs are stored.
func (s *scene) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

func (s *scene) want(what string, got, want any) {
	s.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// goBy lets the time of the bubble pass, which takes none.
func goBy(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a bubble it waits until all else does
}

// canChoose says which samplers a host has.
func (s *scene) canChoose(host string, samplers ...string) {
	s.t.Helper()
	var knows workflow.CapabilityBuilder
	knows.AddClass("KSampler")
	knows.AddClass("SaveImage")
	knows.AddChoices("KSampler", "sampler_name", samplers)
	value, err := workflow.NewCapability(&knows).MarshalBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(names.CapabilitiesBucket, host, value, -1)
}

// putTicket stores the ticket of a job of acme with the hash of graph(1), as a dispatcher does at its first delivery.
func (s *scene) putTicket(id job.ID, sequence uint64, edits ...func(*queue.Ticket)) {
	s.t.Helper()
	ticket := queue.Ticket{
		Priority: job.Usual, Tenant: "acme", Hash: hashOf(s.t, 1), Sequence: sequence, Job: id, Lease: leaseOf(int(sequence), 1), Attempt: 1,
		Received: s.Now(),
	}
	for _, edit := range edits {
		edit(&ticket)
	}
	if _, err := s.PutTicket(context.Background(), &ticket); err != nil {
		s.t.Fatal(err)
	}
}

// takeSlotUnseen has another dispatcher take the one slot of acme, and no watch say so.
func (s *scene) takeSlotUnseen() {
	s.t.Helper()
	s.goOn("other", job.Started)
	taken := encoded(s.t, []queue.Slot{{Job: "other", Host: "far", Time: s.Now()}})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucket(names.SlotsBucket).keys["acme"] = queue.Entry{Phase: queue.Put, Key: "acme", Value: taken, Revision: 1}
}

// cancelsAt is a fault in a wire that has x of acme cancelled, once, before an effect.
func (s *scene) cancelsAt(effect string) func(string) error {
	cancelled := false
	return func(e string) error {
		if e == effect && !cancelled {
			cancelled = true
			if _, _, err := s.End(context.Background(), "acme", "x", queue.Cancelling{By: "acme"}); err != nil {
				s.t.Error(err)
			}
		}
		return nil
	}
}
