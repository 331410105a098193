package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// strikeWire is a NATS with strikes and blocks, which notes what is written.
type strikeWire struct {
	stillWire
	strikes  map[pair]queue.Change[route.Strikes]
	blocks   map[pair]queue.Change[route.Block]
	revision uint64
	log      []string
	away     map[string]error  // by what is asked for
	first    map[string]func() // happens just before that for once
}

func (w *strikeWire) Now() time.Time { return noonUTC }

func (w *strikeWire) asked(what string) error {
	if do := w.first[what]; do != nil {
		delete(w.first, what)
		do()
	}
	return w.away[what]
}

func (w *strikeWire) noted(what string, set func()) {
	w.log = append(w.log, what)
	w.revision++
	set()
}

func valueAt[V any](of map[pair]queue.Change[V], p pair) queue.Change[V] {
	if c, found := of[p]; found {
		return c
	}
	return queue.Change[V]{Phase: queue.Gone}
}

func (w *strikeWire) Strikes(_ context.Context, host string, hash workflow.Hash) (queue.Change[route.Strikes], error) {
	err := w.asked("read strikes")
	return valueAt(w.strikes, pair{host, hash}), err
}

func (w *strikeWire) PutStrikes(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error) {
	if err := w.asked("strike"); err != nil || w.strikes[pair{host, hash}].Revision != revision {
		return false, err
	}
	var s route.Strikes
	err := json.Unmarshal(value, &s)
	w.noted(fmt.Sprint("strike ", host, " ", s.Failures()), func() { w.setStrikes(host, hash, s) })
	return true, err
}

func (w *strikeWire) setStrikes(host string, hash workflow.Hash, s route.Strikes) {
	w.strikes[pair{host, hash}] = queue.Change[route.Strikes]{Phase: queue.Put, Value: s, Revision: w.revision}
}

func (w *strikeWire) ClearStrikes(_ context.Context, host string, hash workflow.Hash, revision uint64) (bool, error) {
	if err := w.asked("clear"); err != nil || w.strikes[pair{host, hash}].Revision != revision {
		return false, err
	}
	w.noted("clear "+host, func() { delete(w.strikes, pair{host, hash}) })
	return true, nil
}

func (w *strikeWire) Block(_ context.Context, host string, hash workflow.Hash) (queue.Change[route.Block], error) {
	err := w.asked("read block")
	return valueAt(w.blocks, pair{host, hash}), err
}

func (w *strikeWire) OpenBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (bool, error) {
	err := w.asked("block")
	if _, stands := w.blocks[pair{host, hash}]; err != nil || stands {
		return false, err
	}
	w.noted(fmt.Sprint("block ", host, " for ", ttl.Truncate(time.Minute)), func() { err = w.setBlock(host, hash, value) })
	return true, err
}

func (w *strikeWire) setBlock(host string, hash workflow.Hash, value []byte) error {
	var b route.Block
	err := json.Unmarshal(value, &b)
	w.blocks[pair{host, hash}] = queue.Change[route.Block]{Phase: queue.Put, Value: b, Revision: w.revision}
	return err
}

func (w *strikeWire) ReplaceBlock(_ context.Context, host string, hash workflow.Hash, value []byte, _ time.Duration, revision uint64) (bool, error) {
	err := w.asked("replace")
	if err != nil || w.blocks[pair{host, hash}].Revision != revision {
		return false, err
	}
	w.noted("replace "+host, func() { err = w.setBlock(host, hash, value) })
	return true, err
}

func (w *strikeWire) LiftBlock(_ context.Context, host string, hash workflow.Hash, revision uint64, cause queue.Cause) (bool, error) {
	if err := w.asked("lift"); err != nil || w.blocks[pair{host, hash}].Revision != revision {
		return false, err
	}
	w.noted(fmt.Sprint("lift ", host, " ", cause), func() { delete(w.blocks, pair{host, hash}) })
	return true, nil
}

// written gives what was written since it was called last.
func (w *strikeWire) written() []string {
	log := w.log
	w.log = nil
	return log
}

// newStrikes is a dispatcher that blocks at a second failure, and whose loop takes in what it is asked.
func newStrikes(t *testing.T) (*strikeWire, *Dispatcher) {
	t.Helper()
	w := &strikeWire{
		strikes: map[pair]queue.Change[route.Strikes]{}, blocks: map[pair]queue.Change[route.Block]{}, away: map[string]error{}, first: map[string]func(){},
	}
	d, err := newOn(w, Config{Name: "me", Policy: route.Policy{Cooldown: time.Minute, Cap: time.Hour, MaxFailures: 2}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case happened := <-d.loop.inbox:
				happened(noonUTC)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-over })
	return w, d
}

// failedOn is a failed event of a job on host a.
func failedOn(mark uint64, kind failure.Kind, edit ...func(*queue.Link)) *queue.Link {
	link := &queue.Link{ChainSequence: mark, Event: job.Event{EventKind: job.Failed, Host: "a", Attempt: 1, Kind: kind, Time: noonUTC}}
	for _, change := range edit {
		change(link)
	}
	return link
}

func TestWhichFailuresAreStrikesAndBlock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failed *queue.Link
		want   []string
	}{
		"a first one, and a second":  {failedOn(7, failure.ExecutionError), []string{"strike a 1", "strike a 2", "block a for 1m0s"}},
		"what the host lacks":        {failedOn(7, failure.Incapable), []string{"strike a 0", "block a for 1h0m0s", "strike a 0"}},
		"without a host":             {failedOn(7, failure.ExecutionError, func(l *queue.Link) { l.Host = "" }), nil},
		"of a kind that blames none": {failedOn(7, failure.Transient), nil},
		"of a host proven at fault":  {failedOn(7, failure.HostSick, func(l *queue.Link) { l.Proven = true }), nil},
		"of a job that only waited":  {failedOn(7, failure.HostLost, func(l *queue.Link) { l.Waited = true }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, d := newStrikes(t)
			o := ownedJob(t, "acme", 1, 1)
			for n := range uint64(2) {
				c.failed.ChainSequence += n
				if err := d.recordFailure(t.Context(), o, c.failed, nil, failure.Decision{}); err != nil {
					t.Error(err)
				}
			}
			same(t, "written", w.written(), c.want)
		})
	}
}

// A dispatcher may die between the strike and the block. The same failure is then settled once more.
func TestAFailureThatIsSettledAgainOpensTheBlockOfItsStrike(t *testing.T) {
	t.Parallel()
	w, d := newStrikes(t)
	o := ownedJob(t, "acme", 1, 1)
	p := pair{"a", o.job.Graph.Hash()}
	settle := func(mark uint64) error { return d.strikeOf(t.Context(), o, failedOn(mark, failure.ExecutionError)) }
	w.away["block"] = errors.New("away")
	same(t, "the first", settle(1), error(nil))
	same(t, "the second", errors.Is(settle(2), w.away["block"]), true)
	same(t, "written", w.written(), []string{"strike a 1", "strike a 2"})
	w.away = map[string]error{}
	same(t, "once more", settle(2), error(nil))
	same(t, "written then", w.written(), []string{"strike a 2", "block a for 1m0s"})
	block := w.blocks[p].Value
	same(t, "block", []any{block.Kind, block.Job, block.Tenants}, []any{failure.ExecutionError, route.JobID("acme-1"), []route.Tenant{"acme"}})
	same(t, "once again", settle(2), error(nil))
	same(t, "nothing is written of a block that stands", w.written(), []string{"strike a 2"})
	strikes := w.strikes[p].Value
	strikes.Open.Until = noonUTC // it is over
	delete(w.blocks, p)
	w.setStrikes("a", p.hash, strikes)
	same(t, "when it is over", settle(2), error(nil))
	same(t, "it is not opened", w.written(), []string{"strike a 2"})
}

func TestAFailureOfASecondTenantWidensTheBlockThatStands(t *testing.T) {
	t.Parallel()
	w, d := newStrikes(t)
	o := ownedJob(t, "acme", 1, 1)
	p := pair{"a", o.job.Graph.Hash()}
	for n, tenant := range []string{"acme", "acme", "bolt", "bolt"} {
		err := d.strikeOf(t.Context(), ownedJob(t, tenant, uint64(n+1), 1), failedOn(uint64(n+1), failure.ExecutionError))
		same(t, "error", err, error(nil))
	}
	same(t, "written", w.written(), []string{"strike a 1", "strike a 2", "block a for 1m0s", "strike a 3", "strike a 4", "replace a"})
	same(t, "for whom it holds", w.blocks[p].Value.Tenants, []route.Tenant{route.Everyone})
}

// Strikes are written by compare-and-set.
func TestStrikesOfTwoDispatchersCountBoth(t *testing.T) {
	t.Parallel()
	w, d := newStrikes(t)
	o := ownedJob(t, "acme", 1, 1)
	hash := o.job.Graph.Hash()
	w.first["strike"] = func() {
		w.noted("another's strike", func() {
			w.setStrikes("a", hash, route.Strikes{Tenants: map[route.Tenant]int{"acme": 1}, Marks: []uint64{3}})
		})
	}
	same(t, "error", d.strikeOf(t.Context(), o, failedOn(7, failure.Timeout)), error(nil))
	same(t, "written", w.written(), []string{"another's strike", "strike a 2", "block a for 1m0s"})
	w.away["strike"] = errors.New("away")
	err := d.recordFailure(t.Context(), o, failedOn(8, failure.Timeout), nil, failure.Decision{})
	same(t, "when NATS is away", errors.Is(err, w.away["strike"]), true)
}

// The size of a job that loads a picture is known to the agent alone.
func TestAFailureForLackOfMemoryCountsWithItsSize(t *testing.T) {
	t.Parallel()
	w, d := newStrikes(t)
	o := ownedJob(t, "acme", 1, 1)
	p := pair{"a", o.job.Graph.Hash()}
	d.loop.successes.largest[p] = 77
	same(t, "error", d.strikeOf(t.Context(), o, failedOn(7, failure.OutOfMemory)), error(nil))
	same(t, "what ran and what did not", []any{w.strikes[p].Value.Ran, w.strikes[p].Value.Memory["acme"].Size}, []any{int64(77), o.job.Graph.Size()})
	delete(w.strikes, p)
	same(t, "error", d.strikeOf(t.Context(), o, failedOn(8, failure.Timeout)), error(nil))
	same(t, "of a timeout", w.strikes[p].Value.Ran, int64(0))
	loads := ownedJob(t, "acme", 2, 1, func(spec *job.Spec) {
		spec.Workflow = json.RawMessage(`{"1":{"class_type":"LoadImage","inputs":{"image":"a.png"}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"a"}}}`)
	})
	failed := failedOn(9, failure.OutOfMemory, func(l *queue.Link) { l.Size = 1234 })
	same(t, "error", d.strikeOf(t.Context(), loads, failed), error(nil))
	same(t, "of a job that loads a picture", w.strikes[pair{"a", loads.job.Graph.Hash()}].Value.Memory["acme"].Size, int64(1234))
}

// Only blocks that the faulty job itself has caused are lifted.
func TestAFaultyWorkflowClearsWhatItsJobHasCounted(t *testing.T) {
	t.Parallel()
	fault := failure.Decision{Reason: failure.WorkflowFault}
	attempts := []failure.Attempt{{Host: "a", Kind: failure.ExecutionError}, {Host: "b", Kind: failure.Timeout}, {Host: "c", Kind: failure.ExecutionError}}
	o := ownedJob(t, "acme", 1, 1)
	hash := o.job.Graph.Hash()
	scene := func(t *testing.T, blamed route.JobID) (*strikeWire, *Dispatcher) {
		t.Helper()
		w, d := newStrikes(t)
		for _, host := range []string{"a", "b", "c"} {
			w.revision++
			w.setStrikes(host, hash, route.Strikes{Tenants: map[route.Tenant]int{"acme": 1}})
		}
		value, err := json.Marshal(route.Block{Host: "a", Hash: hash, Job: blamed})
		if err == nil {
			err = w.setBlock("a", hash, value)
		}
		if err != nil {
			t.Fatal(err)
		}
		return w, d
	}
	w, d := scene(t, "acme-1")
	same(t, "error", d.recordFailure(t.Context(), o, failedOn(7, failure.ExecutionError), attempts, fault), error(nil))
	same(t, "its own block", w.written(), []string{"clear a", "lift a workflow_fault", "clear c"})
	w, d = scene(t, "another")
	same(t, "error", d.recordFailure(t.Context(), o, failedOn(7, failure.ExecutionError), attempts, fault), error(nil))
	same(t, "another's block", w.written(), []string{"clear c"})
	w, d = scene(t, "acme-1")
	w.blocks[pair{"a", hash}] = queue.Change[route.Block]{Phase: queue.Invalid, Revision: 9}
	same(t, "error", d.recordFailure(t.Context(), o, failedOn(7, failure.ExecutionError), attempts, fault), error(nil))
	same(t, "a block that cannot be read", w.written(), []string{"clear c"})
	for _, what := range []string{"read block", "read strikes", "clear", "lift"} {
		w, d = scene(t, "acme-1")
		w.away[what] = errors.New("away")
		err := d.recordFailure(t.Context(), o, failedOn(7, failure.ExecutionError), attempts, fault)
		same(t, "when NATS is away: "+what, errors.Is(err, w.away[what]), true)
	}
	w, d = scene(t, "acme-1")
	w.first["clear"] = func() { w.revision++; w.setStrikes("a", hash, route.Strikes{}) }
	same(t, "error", d.recordFailure(t.Context(), o, failedOn(7, failure.ExecutionError), attempts, fault), error(nil))
	same(t, "when another has written meanwhile", w.written(), []string{"clear a", "lift a workflow_fault", "clear c"})
}
