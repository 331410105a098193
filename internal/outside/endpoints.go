package outside

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	triesOfWebhook = 4   // at once
	triesOfTenant  = 16  // at once, of all its webhooks
	triesOfAll     = 512 // at once
	endpointRoom   = 64  // deliveries that wait in memory for a try
	fullRest       = 2 * time.Second
	leastLeft      = 20 * time.Second // a try begins only when at least this much is left until NATS hands the delivery out again
)

// endpoints has the webhooks for which something is to be delivered.
type endpoints struct {
	try    func(context.Context, *queue.Handed) tryOutcome
	failed func(error)
	under  sync.WaitGroup // tries under way

	mu      sync.Mutex // guards all below
	of      map[string]*endpoint
	running map[string]int // tries under way by owner
	all     int            // tries under way
}

// endpoint is one webhook, and what is to be delivered to it.
type endpoint struct {
	owner   string
	waiting []*queue.Handed
	running int
	fails   int       // in a row
	rests   time.Time // nothing is tried until then
}

// tryOutcome is what a try says of its endpoint.
type tryOutcome struct {
	tried  bool          // a request was made
	failed bool          // the receiver has failed; after several failures in a row the endpoint rests
	rest   time.Duration // that the receiver has asked for
}

// most is how many tries the endpoint gets at once: one, as long as the last one has failed.
func (e *endpoint) most() int {
	if e.fails > 0 {
		return 1
	}
	return triesOfWebhook
}

// take puts a delivery into its endpoint, or gives it back to NATS for a while when the endpoint rests or is full. It does not wait.
func (es *endpoints) take(ctx context.Context, h *queue.Handed, now time.Time) {
	es.mu.Lock()
	defer es.mu.Unlock()
	key := names.WebhookKey(h.Owner, h.Name)
	e := es.of[key]
	if e == nil {
		e = &endpoint{owner: string(h.Owner)}
		es.of[key] = e
	}
	switch {
	case now.Before(e.rests):
		es.giveBack(h, e.rests.Sub(now))
	case len(e.waiting) >= endpointRoom:
		es.giveBack(h, fullRest)
	default:
		e.waiting = append(e.waiting, h)
		es.begin(ctx, key, e, now)
	}
}

// giveBack has a delivery come again after a time, and up to as long again later, so that not all come at once.
func (es *endpoints) giveBack(h *queue.Handed, after time.Duration) {
	if err := h.Later(after + rand.N(after+1)); err != nil { //nolint:gosec // it only keeps deliveries apart
		es.failed(err)
	}
}

// begin starts as many tries of an endpoint as may run.
func (es *endpoints) begin(ctx context.Context, key string, e *endpoint, now time.Time) {
	for len(e.waiting) > 0 && e.running < e.most() && es.running[e.owner] < triesOfTenant && es.all < triesOfAll && ctx.Err() == nil {
		h := e.waiting[0]
		e.waiting = e.waiting[1:]
		if h.Until.Sub(now) < leastLeft { // it has waited here for too long: NATS hands it out again
			continue
		}
		e.running++
		es.running[e.owner]++
		es.all++
		es.under.Go(func() {
			es.end(ctx, key, e, es.try(ctx, h), time.Now())
		})
	}
	if len(e.waiting) == 0 && e.running == 0 && e.fails == 0 {
		delete(es.of, key)
	}
}

// end takes in what came of a try, and begins others of the same owner.
func (es *endpoints) end(ctx context.Context, key string, e *endpoint, v tryOutcome, now time.Time) {
	es.mu.Lock()
	defer es.mu.Unlock()
	e.running--
	es.all--
	if es.running[e.owner]--; es.running[e.owner] == 0 {
		delete(es.running, e.owner)
	}
	switch {
	case v.failed:
		e.fails++
		if until := now.Add(max(restAfter(e.fails), v.rest)); until.After(e.rests) {
			e.rests = until
		}
	case v.tried:
		e.fails, e.rests = 0, time.Time{}
	}
	if now.Before(e.rests) {
		for _, h := range e.waiting {
			es.giveBack(h, e.rests.Sub(now))
		}
		e.waiting = nil
	}
	es.begin(ctx, key, e, now)
	for other, o := range es.of {
		if o != e && (o.owner == e.owner || es.all == triesOfAll-1) {
			es.begin(ctx, other, o, now)
		}
	}
}

// stop returns when no try is under way, and gives back what waits for one, so that another process gets it at
// once. Nothing is taken any more, and the context of the tries has ended.
func (es *endpoints) stop() {
	es.under.Wait()
	es.mu.Lock()
	defer es.mu.Unlock()
	for _, e := range es.of {
		for _, h := range e.waiting {
			es.giveBack(h, 0)
		}
	}
	clear(es.of)
}
