package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// callServer receives calls and answers each on a goroutine of its own, so that a slow call delays no other. A call beyond the limits is
// refused at once, so no caller waits for an answer that does not come.
type callServer struct {
	nc  *nats.Conn
	now func() time.Time // NATS'

	mu    sync.Mutex // guards all below
	shut  bool
	taken map[string]int // calls under way, by tenant; those of the operator under ""
	all   int            // calls under way
	over  sync.WaitGroup // of the calls under way
}

const (
	callsPerTenant = 64   // the most calls under way of one tenant
	callsInAll     = 4096 // the most calls under way of all callers together
)

// callIn is a request, copied since the micro service uses its own when the handler has returned.
type callIn struct {
	subject, reply string
	header         nats.Header
	body           []byte
}

func callOf(r micro.Request) *callIn {
	return &callIn{subject: r.Subject(), reply: r.Reply(), header: nats.Header(r.Headers()), body: r.Data()}
}

// take calls answer on a goroutine, with a context that ends after within, and sends what it returns. The call is refused when whose,
// a tenant or "" for the operator, has most calls under way.
func (d *callServer) take(ctx context.Context, c *callIn, whose string, most int, within time.Duration, answer func(context.Context) (*nats.Msg, error)) {
	if err := d.begin(ctx, whose, most); err != nil {
		d.reply(c, nil, err)
		return
	}
	go func() {
		defer d.end(whose)
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		msg, err := answer(ctx)
		d.reply(c, msg, err)
	}()
}

func (d *callServer) begin(ctx context.Context, whose string, most int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.shut || ctx.Err() != nil:
		return &jetstream.Stopping{Message: "this dispatcher is stopping: ask again"}
	case d.taken[whose] >= most:
		return &jetstream.TooMany{Message: fmt.Sprintf("too many calls at once: this dispatcher has %d of them under way, and takes no more until some are answered", d.taken[whose])}
	case d.all >= callsInAll:
		return &jetstream.TooMany{Message: fmt.Sprintf("too many calls at once: this dispatcher has %d of all tenants under way: ask again", d.all)}
	}
	d.taken[whose]++
	d.all++
	d.over.Add(1)
	return nil
}

func (d *callServer) end(whose string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.taken[whose]--; d.taken[whose] == 0 {
		delete(d.taken, whose)
	}
	d.over.Done()
}

// reply ignores an answer that cannot be sent: the caller gets a timeout.
func (d *callServer) reply(c *callIn, msg *nats.Msg, err error) {
	if c.reply == "" {
		return
	}
	if err == nil {
		if msg.Header == nil {
			msg.Header = nats.Header{}
		}
		msg.Header.Set(names.TimeHeader, d.now().UTC().Format(time.RFC3339Nano))
	}
	if limit := d.nc.MaxPayload(); err == nil && int64(msg.Size()) > limit {
		err = &jetstream.TooBig{Message: fmt.Sprintf("the answer to %s has %d bytes, and NATS takes at most %d in a message: ask for less, a page at a time with limit and after, or raise max_payload",
			c.subject, len(msg.Data), limit)}
	}
	if err != nil {
		msg = nats.NewMsg("")
		msg.Header.Set(micro.ErrorHeader, callerText(err))
		msg.Header.Set(micro.ErrorCodeHeader, jetstream.Code(err))
	}
	msg.Subject = c.reply
	_ = d.nc.PublishMsg(msg)
}

// shutNow makes take refuse all further calls.
func (d *callServer) shutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
}

// callerText is the text of an error for the caller. For the end of a context it says what that means.
func callerText(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "the dispatcher stopped before it had the answer: ask again"
	case errors.Is(err, context.DeadlineExceeded):
		return "the answer took too long and was given up: ask again, or for less (" + err.Error() + ")"
	}
	return err.Error()
}
