package dispatcher

import (
	"context"
	"iter"
	"slices"
	"time"
)

// What looks at very much is done in slices: a part in each of many turns of the loop, so that none takes long. It is
// written as a plain function that calls pause wherever others may have their turn, and ends when pause returns false. Whatever
// it goes through may have changed when it goes on.

const (
	sliceTime  = 300 * time.Microsecond // after which it waits for the next turn
	sliceSteps = 32                     // between two looks at the clock
)

// slicedWork is work of which a part is done at a time.
type slicedWork struct {
	next func() (struct{}, bool)
	stop func()
}

func newSlicedWork(work func(pause func() bool)) *slicedWork {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		steps, givenUp := 0, false
		work(func() bool {
			steps++
			givenUp = givenUp || steps%sliceSteps == 0 && !yield(struct{}{})
			return !givenUp
		})
	})
	return &slicedWork{next, stop}
}

// advance goes on for a moment, and reports whether there is more to do.
func (b *slicedWork) advance() bool {
	began := time.Now()
	for {
		if _, more := b.next(); !more {
			return false
		}
		if time.Since(began) >= sliceTime {
			return true
		}
	}
}

// always lets work go on without a pause.
func always() bool { return true }

// answerInSlices runs work in the loop for a call, in slices.
func (d *Dispatcher) answerInSlices(ctx context.Context, work func(pause func() bool)) error {
	b := newSlicedWork(work)
	defer b.stop()
	for more := true; more; {
		if err := d.answer(ctx, func(time.Time) { more = b.advance() }); err != nil {
			return err
		}
	}
	return nil
}

// background is what the loop does in slices beside all else, one after the other.
type background struct{ list []*namedWork }

type namedWork struct {
	name string
	*slicedWork
}

// begin begins work. Work of the same name that is under way is given up.
func (c *background) begin(name string, work func(pause func() bool)) {
	c.list = slices.DeleteFunc(c.list, func(old *namedWork) bool {
		if old.name == name {
			old.stop()
		}
		return old.name == name
	})
	c.list = append(c.list, &namedWork{name, newSlicedWork(work)})
}

// left reports whether there is something to do.
func (c *background) left() bool { return len(c.list) > 0 }

// advance does a part of the first one.
func (c *background) advance() {
	if len(c.list) == 0 {
		return
	}
	first := c.list[0]
	c.list = c.list[1:]
	if first.advance() {
		c.list = append(c.list, first)
	}
}

// stop gives up what is left.
func (c *background) stop() {
	for _, x := range c.list {
		x.stop()
	}
	c.list = nil
}
