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
	laneRoom       = 64  // deliveries that wait in memory for a try
	fullRest       = 2 * time.Second
	laneLeast      = 20 * time.Second // that must be left until NATS hands a delivery out again, for a try to begin
)

// lanes has a lane for each webhook that has something to be delivered.
type lanes struct {
	try    func(context.Context, *queue.Handed) verdict
	failed func(error)
	under  sync.WaitGroup // tries under way

	mu      sync.Mutex // guards all below
	of      map[string]*lane
	running map[string]int // tries under way by owner
	all     int            // tries under way
}

// lane is what one webhook is to receive.
type lane struct {
	owner   string
	waiting []*queue.Handed
	running int
	fails   int       // in a row
	rests   time.Time // nothing is tried until then
}

// verdict is what a try says of its lane.
type verdict struct {
	tried  bool          // a request was made
	failed bool          // the receiver has failed; after several failures in a row the lane rests
	rest   time.Duration // that the receiver has asked for
}

// most is how many tries the lane makes at once: one, as long as the last one has failed.
func (l *lane) most() int {
	if l.fails > 0 {
		return 1
	}
	return triesOfWebhook
}

// take puts a delivery into its lane, or gives it back to NATS for a while when the lane rests or is full. It does not wait.
func (ls *lanes) take(ctx context.Context, h *queue.Handed, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := names.WebhookKey(h.Owner, h.Name)
	l := ls.of[key]
	if l == nil {
		l = &lane{owner: string(h.Owner)}
		ls.of[key] = l
	}
	switch {
	case now.Before(l.rests):
		ls.giveBack(h, l.rests.Sub(now))
	case len(l.waiting) >= laneRoom:
		ls.giveBack(h, fullRest)
	default:
		l.waiting = append(l.waiting, h)
		ls.begin(ctx, key, l, now)
	}
}

// giveBack has a delivery come again after a time, and up to as long again later, so that not all come at once.
func (ls *lanes) giveBack(h *queue.Handed, after time.Duration) {
	if err := h.Later(after + rand.N(after+1)); err != nil { //nolint:gosec // it only keeps deliveries apart
		ls.failed(err)
	}
}

// begin starts as many tries of a lane as may run.
func (ls *lanes) begin(ctx context.Context, key string, l *lane, now time.Time) {
	for len(l.waiting) > 0 && l.running < l.most() && ls.running[l.owner] < triesOfTenant && ls.all < triesOfAll && ctx.Err() == nil {
		h := l.waiting[0]
		l.waiting = l.waiting[1:]
		if h.Until.Sub(now) < laneLeast { // it has waited here for too long: NATS hands it out again
			continue
		}
		l.running++
		ls.running[l.owner]++
		ls.all++
		ls.under.Go(func() {
			ls.end(ctx, key, l, ls.try(ctx, h), time.Now())
		})
	}
	if len(l.waiting) == 0 && l.running == 0 && l.fails == 0 {
		delete(ls.of, key)
	}
}

// end takes in what came of a try, and begins others of the same owner.
func (ls *lanes) end(ctx context.Context, key string, l *lane, v verdict, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.running--
	ls.all--
	if ls.running[l.owner]--; ls.running[l.owner] == 0 {
		delete(ls.running, l.owner)
	}
	switch {
	case v.failed:
		l.fails++
		if until := now.Add(max(restAfter(l.fails), v.rest)); until.After(l.rests) {
			l.rests = until
		}
	case v.tried:
		l.fails, l.rests = 0, time.Time{}
	}
	if now.Before(l.rests) {
		for _, h := range l.waiting {
			ls.giveBack(h, l.rests.Sub(now))
		}
		l.waiting = nil
	}
	ls.begin(ctx, key, l, now)
	for other, o := range ls.of {
		if o != l && (o.owner == l.owner || ls.all == triesOfAll-1) {
			ls.begin(ctx, other, o, now)
		}
	}
}

// stop returns when no try is under way, and gives back what waits for one, so that another process need not wait until this one's time
// with it is over. Nothing is taken any more, and the context of the tries has ended.
func (ls *lanes) stop() {
	ls.under.Wait()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.of {
		for _, h := range l.waiting {
			ls.giveBack(h, 0)
		}
	}
	clear(ls.of)
}
