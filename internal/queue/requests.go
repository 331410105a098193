package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// calls are requests that wait for their answers on one reply subscription. They do the same as nats.go's requests, without a
// context, a channel and a random token for each: every job needs four of them. With nc.RequestMsgWithContext
// instead, a job of the bench takes 5.9 % more CPU (see "Hand-written against plain" in docs/performance.md).
type calls struct {
	nc *nats.Conn

	mu      sync.Mutex // guards all below
	sub     *nats.Subscription
	prefix  string // of reply subjects
	waiting map[uint64]*call
	last    uint64
	spare   []*call
	timed   bool // a timer for endOverdue runs
}

// call is one request under way, or a spare one.
type call struct {
	answer chan *nats.Msg // buffered, so that sending never blocks; nil when the time is over
	until  time.Time
}

// overduePause is how much later than its timeout a call may end: one timer serves all calls, of which few time out.
const overduePause = 100 * time.Millisecond

// spareCalls is how many calls are kept for later requests.
const spareCalls = 256

// ask sends msg, whose reply subject it sets, and waits for its answer: at most for timeout, and no longer than ctx.
func (c *calls) ask(ctx context.Context, msg *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	number, waits, err := c.send(msg, timeout)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, number, waits)
}

// send is the first half of ask. After it await must be called.
func (c *calls) send(msg *nats.Msg, timeout time.Duration) (uint64, *call, error) {
	number, waits, err := c.begin(msg, timeout)
	if err != nil {
		return 0, nil, err
	}
	if err := c.nc.PublishMsg(msg); err != nil {
		c.end(number, waits)
		return 0, nil, err
	}
	return number, waits, nil
}

// await is the second half of ask.
func (c *calls) await(ctx context.Context, number uint64, waits *call) (answer *nats.Msg, err error) {
	select {
	case answer = <-waits.answer:
		if answer == nil {
			err = nats.ErrTimeout
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.end(number, waits)
	if err == nil && len(answer.Data) == 0 && answer.Header.Get("Status") == "503" {
		err = nats.ErrNoResponders
	}
	return answer, err
}

func (c *calls) begin(msg *nats.Msg, timeout time.Duration) (uint64, *call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sub == nil {
		if err := c.listen(); err != nil {
			return 0, nil, err
		}
	}
	c.last++
	msg.Reply = string(strconv.AppendUint(append(make([]byte, 0, 64), c.prefix...), c.last, 36))
	var waits *call
	if n := len(c.spare); n > 0 {
		waits = c.spare[n-1]
		c.spare = c.spare[:n-1]
	} else {
		waits = &call{answer: make(chan *nats.Msg, 1)}
	}
	waits.until = time.Now().Add(timeout)
	c.waiting[c.last] = waits
	if !c.timed {
		c.timed = true
		time.AfterFunc(overduePause, c.endOverdue)
	}
	return c.last, waits, nil
}

// endOverdue ends the calls whose time is over, and runs again while others wait.
func (c *calls) endOverdue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for number, waits := range c.waiting {
		if now.After(waits.until) {
			delete(c.waiting, number)
			waits.answer <- nil
		}
	}
	if c.timed = len(c.waiting) > 0; c.timed {
		time.AfterFunc(overduePause, c.endOverdue)
	}
}

// listen must be called with mu held.
func (c *calls) listen() error {
	prefix := c.nc.NewInbox() + "."
	sub, err := c.nc.Subscribe(prefix+"*", c.receive)
	if err != nil {
		return fmt.Errorf("subscribe to answers: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("subscribe to answers: %w", err)
	}
	c.sub, c.prefix = sub, prefix
	if c.waiting == nil {
		c.waiting = map[uint64]*call{}
	}
	return nil
}

// receive gives an answer to its call. One that comes too late is ignored.
func (c *calls) receive(msg *nats.Msg) {
	number, err := strconv.ParseUint(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], 36, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits := c.waiting[number]; waits != nil {
		delete(c.waiting, number)
		waits.answer <- msg
	}
}

func (c *calls) end(number uint64, waits *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, number)
	select {
	case <-waits.answer: // it came while the caller gave up
	default:
	}
	if len(c.spare) < spareCalls {
		c.spare = append(c.spare, waits)
	}
}

// stop ends the subscription; calls under way end with their timeouts.
func (c *calls) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sub != nil {
		_ = c.sub.Unsubscribe() // the connection may be closed already
		c.sub = nil
	}
}
