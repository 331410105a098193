package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// puller asks a durable consumer that others share for messages, and takes them on one subscription that stands until
// close. nats.go's Fetch has a subscription for each request, which ends soon after the request ran out, and with a
// reconnect: a message that comes later is dropped, and delivered again after AckWait only. Here it is taken whenever
// it comes. That is why it is here: Fetch takes as much CPU. Consume and Messages keep one subscription too, but ask for
// more messages by themselves, and a dispatcher must not take a job that another one has a free host for.
type puller struct {
	q      *Queue
	open   opener
	take   func(*nats.Msg)
	sub    *nats.Subscription
	inbox  string        // before the number of a request
	closed chan struct{} // when take is not called any more

	// Only pull touches it.
	subject string // where to ask; empty while the consumer is to be opened

	mu      sync.Mutex // guards all below
	request uint64     // number of the newest
	left    int        // messages that it still may bring; a late one of an earlier request counts as one of them
	over    chan error // has a value when it brings no more
}

type opener func(context.Context) (natsjs.Consumer, error)

// pullGrace is how much longer than the request's own time the server's answer that it ran out is waited for.
const pullGrace = 2 * time.Second

// puller has take called for every message, one after the other.
func (q *Queue) puller(open opener, take func(*nats.Msg)) (*puller, error) {
	p := &puller{q: q, open: open, take: take, inbox: q.nc.NewInbox() + ".", closed: make(chan struct{})}
	var err error
	if p.sub, err = q.listen(p.inbox+"*", p.hear); err != nil {
		return nil, err
	}
	p.sub.SetClosedHandler(func(string) { close(p.closed) })
	// What may come is bounded by what was asked for. It is an error if the subscription was closed before it had its handler.
	return p, wrap(p.sub.SetPendingLimits(-1, -1), "listen for deliveries")
}

// pull asks for up to n messages and returns how many came when all have, when wait is over, or at once when NATS came
// back from an outage, since a request from before it is lost. After an error the consumer is opened again: it may have
// been away with its stream, or removed by hand.
func (p *puller) pull(ctx context.Context, n int, wait time.Duration) (int, error) {
	reconnected := p.q.reconnects.current()
	if p.subject == "" {
		consumer, err := p.open(ctx)
		if err != nil {
			return 0, err
		}
		info := consumer.CachedInfo()
		p.subject = p.q.apiSubject("CONSUMER.MSG.NEXT." + info.Stream + "." + info.Name)
	}
	number, over := p.begin(n)
	if p.q.Connected() { // or it would stand in a buffer, with others, until all are sent at once
		body := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"max_bytes":%d}`, n, wait, p.q.pullBytes())
		if err := p.q.nc.PublishRequest(p.subject, p.inbox+strconv.FormatUint(number, 10), body); err != nil {
			p.subject = ""
			return 0, fmt.Errorf("ask for messages: %w", err)
		}
	}
	err := p.await(ctx, over, reconnected, wait)
	if err != nil {
		p.subject = ""
	}
	return n - p.missing(), err
}

// await returns when a request brings no more. That its time is over is a status that the server sends after the last
// message; while messages wait to be taken it is not late.
func (p *puller) await(ctx context.Context, over <-chan error, reconnected <-chan struct{}, wait time.Duration) error {
	late := time.NewTimer(wait + pullGrace)
	defer late.Stop()
	for {
		select {
		case err := <-over:
			return err
		case <-reconnected:
			return nil
		case <-late.C:
			if n, _, err := p.sub.Pending(); err != nil || n == 0 {
				return nil
			}
			late.Reset(pullGrace)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *puller) begin(n int) (uint64, <-chan error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request++
	p.left, p.over = n, make(chan error, 1)
	return p.request, p.over
}

func (p *puller) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.left, 0)
}

// hear takes a message, or the server's status of a request, which comes on the request's reply subject.
func (p *puller) hear(msg *nats.Msg) {
	if number, ok := strings.CutPrefix(msg.Subject, p.inbox); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		if number == strconv.FormatUint(p.request, 10) {
			p.end(requestError(msg))
		}
		return
	}
	p.take(msg)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left == 0 {
		p.end(nil)
	}
}

// enough has the request under way bring no more; what comes all the same is taken.
func (p *puller) enough() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(nil)
}

// end must be called with mu held.
func (p *puller) end(err error) {
	select {
	case p.over <- err:
	default: // it has ended already
	}
}

// requestError reads why a request brings no more: that there was nothing, or no more until its time was over, is no
// error. The codes are those of NATS's ADR-13.
func requestError(msg *nats.Msg) error {
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	switch code {
	case "404", "408":
		return nil
	case "409":
		if strings.HasPrefix(text, "Message Size Exceeds") { // what was asked for in bytes has come
			return nil
		}
	case "503":
		return fmt.Errorf("the consumer is not to be reached: %w", nats.ErrNoResponders)
	}
	return fmt.Errorf("the request for messages was ended: %s %s", code, text)
}

// pullBytes is how much one request may bring: large messages must not keep all else on the connection waiting, and one of
// any size has to fit.
func (q *Queue) pullBytes() int64 { return max(pullBytesLeast, q.nc.MaxPayload()+pullBytesMore) }

const (
	pullBytesLeast = 4 << 20
	pullBytesMore  = 64 << 10 // what the server counts beside a message's body
)

// close ends the subscription and returns when take is not called any more.
func (p *puller) close() {
	_ = p.sub.Unsubscribe() // a connection that is closed or drained ends it as well
	<-p.closed
}
