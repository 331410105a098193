package dispatcher

import (
	"context"
	"iter"
	"slices"
	"time"
)

// What looks at very much is done in bites: a part in each of many turns of the loop, so that none takes long. It is
// written as a plain function that calls pause wherever others may have their turn, and ends when pause says no. Whatever
// it goes through may have changed when it goes on.

const (
	biteTime  = 300 * time.Microsecond // after which it waits for the next turn
	biteSteps = 32                     // between two looks at the clock
)

// bites is work of which a part is done at a time.
type bites struct {
	next func() (struct{}, bool)
	stop func()
}

func newBites(work func(pause func() bool)) *bites {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		steps := 0
		work(func() bool {
			steps++
			return steps%biteSteps != 0 || yield(struct{}{})
		})
	})
	return &bites{next, stop}
}

// bite goes on for a moment, and reports whether there is more to do.
func (b *bites) bite() bool {
	began := time.Now()
	for {
		if _, more := b.next(); !more {
			return false
		}
		if time.Since(began) >= biteTime {
			return true
		}
	}
}

// always lets work go on without a pause.
func always() bool { return true }

// answerInBites runs work in the loop for a call, in bites.
func (d *Dispatcher) answerInBites(ctx context.Context, work func(pause func() bool)) error {
	b := newBites(work)
	defer b.stop()
	for more := true; more; {
		if err := d.answer(ctx, func(time.Time) { more = b.bite() }); err != nil {
			return err
		}
	}
	return nil
}

// chores are what the loop does in bites beside all else, one after the other.
type chores struct{ list []*chore }

type chore struct {
	name string
	*bites
}

// begin begins a chore. One of the same name that is under way is given up.
func (c *chores) begin(name string, work func(pause func() bool)) {
	c.list = slices.DeleteFunc(c.list, func(old *chore) bool {
		if old.name == name {
			old.stop()
		}
		return old.name == name
	})
	c.list = append(c.list, &chore{name, newBites(work)})
}

// left reports whether there is something to do.
func (c *chores) left() bool { return len(c.list) > 0 }

// bite does a part of the first chore.
func (c *chores) bite() {
	if len(c.list) == 0 {
		return
	}
	first := c.list[0]
	c.list = c.list[1:]
	if first.bite() {
		c.list = append(c.list, first)
	}
}

// stop gives up what is left.
func (c *chores) stop() {
	for _, x := range c.list {
		x.stop()
	}
	c.list = nil
}
