package dispatcher

import (
	"context"
	"runtime"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// turnstile lets calls ask the brain one after the other, with a rest after each: whatever is asked, and by however many,
// the brain spends most of its time on jobs, and no job waits for more than one question.
type turnstile struct {
	turn chan struct{} // holds one while somebody asks
	rest time.Time     // nobody asks before; only whose turn it is touches it
}

const (
	restTimes = 3                      // how many times as long as a question the rest after it is
	restMost  = 250 * time.Millisecond // of one rest
)

func newTurnstile() *turnstile { return &turnstile{turn: make(chan struct{}, 1)} }

// pass runs ask when it is its turn.
func (t *turnstile) pass(ctx context.Context, ask func()) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.turn }()
	if wait := time.Until(t.rest); wait > 0 {
		sleep(ctx, wait)
	}
	if ctx.Err() == nil {
		ask()
	}
	return ctx.Err()
}

// took says how long a question has kept the brain.
func (t *turnstile) took(d time.Duration) { t.rest = time.Now().Add(min(restTimes*d, restMost)) }

// answer runs f in the brain's loop for a call.
func (d *Dispatcher) answer(ctx context.Context, f func(now time.Time)) error {
	heard := false
	err := d.counter.turns.pass(ctx, func() {
		heard = d.brain.ask(func(now time.Time) {
			begun := time.Now()
			f(now)
			d.counter.turns.took(time.Since(begun))
		})
	})
	if err == nil && !heard {
		err = &jetstream.Stopping{Message: "this dispatcher is stopping: ask again"}
	}
	return err
}

// counter is what calls are answered with beside the brain.
type counter struct {
	turns    *turnstile
	heavy    chan struct{} // holds one for each call that computes for long, as one that reads a workflow
	letters  chan struct{} // holds one for each call that reads dead letters, which have whole jobs
	affinity *mirrored[queue.Affinity]
	tenants  *mirrored[queue.TenantSettings]
}

func newCounter() *counter {
	return &counter{
		turns: newTurnstile(), heavy: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4)),
		letters:  make(chan struct{}, readersMost),
		affinity: mirror(queue.AffinityOf), tenants: mirror(queue.TenantOf),
	}
}

// readersMost is how many calls read dead letters at once: each has some megabytes of them in hand.
const readersMost = 4

// enterLetters waits for a place among those who read dead letters, until leave is called.
func (c *counter) enterLetters(ctx context.Context) (leave func(), err error) {
	select {
	case c.letters <- struct{}{}:
		return func() { <-c.letters }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// heavily runs what computes for long; of that so few are done at once that the loops of the dispatcher have the other
// processors.
func (c *counter) heavily(ctx context.Context, do func()) error {
	select {
	case c.heavy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.heavy }()
	do()
	return nil
}
