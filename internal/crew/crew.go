// Package crew keeps goroutines for later work.
//
// Guarantee: every function that Go is given runs at once on a goroutine of its own, as with a go statement, and Close
// returns when none is left. A goroutine that has run one takes the next, so that a stack that has grown is not grown
// again for each of thousands of walks a second.
package crew

import (
	"sync"
	"sync/atomic"
)

// mostResting is how many goroutines wait for work at most; each keeps a stack of some kilobytes.
const mostResting = 256

// Crew is ready for use when it comes from Muster.
type Crew struct {
	next    chan func() // taken by those who rest
	ended   chan struct{}
	end     sync.Once
	resting atomic.Int64
	members sync.WaitGroup // goroutines

	mu      sync.Mutex    // guards the two below
	working int           // functions
	idle    chan struct{} // closed when none works; nil while nobody waits
}

// Muster gives a crew without members; Close ends it.
func Muster() *Crew { return &Crew{next: make(chan func()), ended: make(chan struct{})} }

// Go runs f on a goroutine of its own: one that rests, or a new one. It must not be called once Close was.
func (c *Crew) Go(f func()) {
	c.mu.Lock()
	c.working++
	c.mu.Unlock()
	select {
	case c.next <- f:
	default:
		c.members.Go(func() { c.work(f) })
	}
}

func (c *Crew) work(f func()) {
	for {
		f()
		c.done()
		if c.resting.Add(1) > mostResting {
			c.resting.Add(-1)
			return
		}
		select {
		case f = <-c.next:
			c.resting.Add(-1)
		case <-c.ended:
			return
		}
	}
}

func (c *Crew) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working--
	if c.working == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Wait returns at a moment when no function runs. Go may be called beside it; a sync.WaitGroup would not allow that.
func (c *Crew) Wait() {
	c.mu.Lock()
	if c.working == 0 {
		c.mu.Unlock()
		return
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	<-idle
}

// Close waits until all functions have returned, and for the goroutines that ran them.
func (c *Crew) Close() {
	c.end.Do(func() { close(c.ended) })
	c.members.Wait()
}
