package dispatcher

import (
	"context"
	"runtime"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// callLimit lets calls ask the loop one after the other, with a pause after each. So the loop spends most of its time on
// jobs, however many calls there are, and no job waits for more than one question.
type callLimit struct {
	turn chan struct{} // holds one while a call asks
	rest time.Time     // no call asks before this time; only the call whose turn it is touches it
}

const (
	restTimes = 3                      // how many times as long as a question the pause after it is
	restMost  = 250 * time.Millisecond // longest pause
)

func newCallLimit() *callLimit { return &callLimit{turn: make(chan struct{}, 1)} }

// pass runs ask when it is its turn.
func (t *callLimit) pass(ctx context.Context, ask func()) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.turn }()
	if wait := time.Until(t.rest); wait > 0 {
		queue.Pause(ctx, wait)
	}
	if ctx.Err() == nil {
		ask()
	}
	return ctx.Err()
}

// took says how long a question has kept the loop.
func (t *callLimit) took(d time.Duration) { t.rest = time.Now().Add(min(restTimes*d, restMost)) }

// answer runs f in the loop for a call.
func (d *Dispatcher) answer(ctx context.Context, f func(now time.Time)) error {
	ran := false
	err := d.answers.turns.pass(ctx, func() {
		ran = d.loop.ask(func(now time.Time) {
			begun := time.Now()
			f(now)
			d.answers.turns.took(time.Since(begun))
		})
	})
	if err == nil && !ran {
		err = &jetstream.Stopping{Message: "this dispatcher is stopping: ask again"}
	}
	return err
}

// answers holds what calls are answered from without asking the loop, and the limits of calls.
type answers struct {
	turns    *callLimit
	heavy    chan struct{} // holds one for each call that computes for long, as one that reads a workflow
	letters  chan struct{} // holds one for each call that reads dead letters, which have whole jobs
	affinity *settings[queue.Affinity]
	tenants  *settings[queue.TenantSettings]

	dispatchers *settings[queue.DispatcherState] // that are live
	surveys     surveys
	stores      storeCounts
}

func newAnswers() *answers {
	return &answers{
		turns: newCallLimit(), heavy: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4)),
		letters:  make(chan struct{}, readersMost),
		affinity: newSettings[queue.Affinity](), tenants: newSettings[queue.TenantSettings](),
		dispatchers: newSettings[queue.DispatcherState](), surveys: newSurveys(),
	}
}

// readersMost is how many calls read dead letters at once: each has some megabytes of them in hand.
const readersMost = 4

// enterLetters waits for a place among the calls that read dead letters. The place is taken until done is called.
func (a *answers) enterLetters(ctx context.Context) (done func(), err error) {
	select {
	case a.letters <- struct{}{}:
		return func() { <-a.letters }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// compute runs a long computation. So few of them run at once that processors are left for the loops of the dispatcher.
func (a *answers) compute(ctx context.Context, do func()) error {
	select {
	case a.heavy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.heavy }()
	do()
	return nil
}
