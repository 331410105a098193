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

// puller pulls messages from a consumer, and receives them on one subscription that lasts until close. It exists since nats.go's
// Fetch makes a subscription for each request, which ends soon after the request has run out, and at a reconnect: a message that
// comes later is lost, and delivered again only after AckWait. nats.go's Consume and Messages keep one
// subscription, but request further messages by themselves, and a dispatcher must not take a job that another one has a free host for.
type puller struct {
	q      *Queue
	open   opener
	take   func(*nats.Msg)
	sub    *nats.Subscription
	inbox  string        // reply subject of a request, without its number
	closed chan struct{} // closed when take is no longer called

	// Used by pull only.
	subject string // for requests; empty while the consumer must be opened

	mu      sync.Mutex // guards all below
	request uint64     // number of the newest request
	left    int        // messages that the request may still bring; late ones of an earlier request count too
	over    chan error // gets a value when the request has ended
}

type opener func(context.Context) (natsjs.Consumer, error)

// pullGrace is how much longer than a request's time pull waits for the server's message that it has run out.
const pullGrace = 2 * time.Second

// puller makes a puller that calls take for every message, one after the other.
func (q *Queue) puller(open opener, take func(*nats.Msg)) (*puller, error) {
	p := &puller{q: q, open: open, take: take, inbox: q.nc.NewInbox() + ".", closed: make(chan struct{})}
	var err error
	if p.sub, err = q.listen(p.inbox+"*", p.receive); err != nil {
		return nil, err
	}
	p.sub.SetClosedHandler(func(string) { close(p.closed) })
	// No limit is needed: no more comes than was requested. An error means that the subscription was closed before it had its handler.
	return p, wrap(p.sub.SetPendingLimits(-1, -1), "subscribe to deliveries")
}

// pull asks for up to n messages and returns how many came: when all have come, when wait is over, or at once after a reconnect, by
// which the request is lost. After an error the next pull opens the consumer again, which may have been removed.
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
	if p.q.Connected() { // otherwise requests would collect in nats.go's buffer and be sent all at once
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

// pullAll asks for n messages at a time until ctx ends. failed is called with every error, and a second later it goes on.
func (p *puller) pullAll(ctx context.Context, n int, failed func(error)) error {
	for ctx.Err() == nil {
		if _, err := p.pull(ctx, n, pullWait); err != nil && ctx.Err() == nil {
			failed(err)
			Pause(ctx, time.Second)
		}
	}
	return ctx.Err()
}

// await returns when a request has ended. The server's status, which ends a request, comes after its messages. So while messages are
// still queued in the subscription, await waits on.
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

// receive takes a message, or the server's status of a request, which comes on the request's reply subject.
func (p *puller) receive(msg *nats.Msg) {
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

// endRequest ends the request under way; messages that still come are taken.
func (p *puller) endRequest() {
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

// requestError decodes the status by which the server ends a request. That it has no message, or none until the time was over, is no
// error. The codes are those of NATS' ADR-13.
func requestError(msg *nats.Msg) error {
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	switch code {
	case "404", "408":
		return nil
	case "409":
		if strings.HasPrefix(text, "Message Size Exceeds") { // max_bytes of the request are reached
			return nil
		}
	case "503":
		return fmt.Errorf("no server answers for the consumer: %w", nats.ErrNoResponders)
	}
	return fmt.Errorf("NATS ended the request for messages: %s %s", code, text)
}

// pullBytes is the most bytes of one request: large messages must not delay all others on the connection, and one of any size must
// fit.
func (q *Queue) pullBytes() int64 { return max(pullBytesLeast, q.nc.MaxPayload()+pullBytesMore) }

const (
	pullBytesLeast = 4 << 20
	pullBytesMore  = 64 << 10 // the most that the server counts beside a message's body
)

// close ends the subscription and returns when take is no longer called.
func (p *puller) close() {
	_ = p.sub.Unsubscribe() // a connection that is closed or drained ends it as well
	<-p.closed
}
