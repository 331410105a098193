package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// recorder notes when each job was published, started and ended, by a subscription to its events.
type recorder struct {
	published, started, ended []atomic.Int64 // by job: nanoseconds since base
	base                      time.Time
	prefix                    string // of the ids of this run's jobs
	first, last               atomic.Int64
	done, dead                atomic.Int64
	all                       chan struct{}
	newEnd                    chan struct{} // has a value: a job has ended since waitFor looked last
	subs                      []*nats.Subscription
}

func newRecorder(l *load) *recorder {
	jobs := l.jobs
	return &recorder{
		published: make([]atomic.Int64, jobs), started: make([]atomic.Int64, jobs), ended: make([]atomic.Int64, jobs),
		base: time.Now(), prefix: l.prefix, all: make(chan struct{}), newEnd: make(chan struct{}, 1),
	}
}

// follow subscribes to the events prefix.<tenant>.<job>.<kind>.
func (r *recorder) follow(nc *nats.Conn, prefix string) error {
	for kind, hear := range map[string]func(int){"started": r.begin, "completed": r.end, "dead": r.endedOtherwise} {
		sub, err := nc.Subscribe(prefix+".*.*."+kind, func(msg *nats.Msg) {
			if i, ok := r.index(subjectID(msg.Subject)); ok {
				hear(i)
			}
		})
		if err != nil {
			return fmt.Errorf("follow %s: %w", kind, err)
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return fmt.Errorf("follow %s: %w", kind, err)
		}
		r.subs = append(r.subs, sub)
	}
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	return nil
}

func subjectID(subject string) string {
	end := strings.LastIndexByte(subject, '.')
	return subject[strings.LastIndexByte(subject[:end], '.')+1 : end]
}

// index is which job of this run has the id.
func (r *recorder) index(id string) (int, bool) {
	number, ours := strings.CutPrefix(id, r.prefix)
	i, err := strconv.Atoi(number)
	return i, ours && err == nil && i >= 0 && i < len(r.published)
}

func (r *recorder) now() int64 { return int64(time.Since(r.base)) }

func (r *recorder) publish(i int) {
	now := r.now()
	r.first.CompareAndSwap(0, now)
	r.published[i].Store(now)
}

func (r *recorder) begin(i int) { r.started[i].CompareAndSwap(0, r.now()) }

func (r *recorder) end(i int) {
	now := r.now()
	if r.ended[i].CompareAndSwap(0, now) {
		r.over(now)
	}
}

func (r *recorder) over(now int64) {
	r.last.Store(now)
	if int(r.done.Add(1)) == len(r.ended) {
		close(r.all)
	}
	select {
	case r.newEnd <- struct{}{}:
	default:
	}
}

// endedOtherwise notes an end that is no completion, so that no time from publish to completed counts it.
func (r *recorder) endedOtherwise(i int) {
	if r.ended[i].CompareAndSwap(0, -1) {
		r.dead.Add(1)
		r.over(r.now())
	}
}

// wait waits for the end of all jobs.
func (r *recorder) wait(ctx context.Context, stage string) error {
	select {
	case <-r.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %d of %d jobs had ended: %w", stage, r.done.Load(), len(r.ended), context.Cause(ctx))
	}
}

// waitFor waits for the end of one job.
func (r *recorder) waitFor(ctx context.Context, i int) error {
	for r.ended[i].Load() == 0 {
		select {
		case <-r.newEnd:
		case <-ctx.Done():
			return fmt.Errorf("job %d had not ended: %w", i, context.Cause(ctx))
		}
	}
	return nil
}

// reporting reports how far a stage is until stop is called, which waits for the last report.
func reporting(stage string, total int, done func() int, tell func(Progress)) (stop func()) {
	over := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				tell(Progress{Stage: stage, Done: done(), Total: total})
			}
		}
	})
	return func() {
		close(over)
		teller.Wait()
	}
}

func (r *recorder) reporting(stage string, tell func(Progress)) (stop func()) {
	return reporting(stage, len(r.ended), func() int { return int(r.done.Load()) }, tell)
}

// perSecond is jobs a second from the first publish to the last end.
func (r *recorder) perSecond() float64 {
	took := time.Duration(r.last.Load() - r.first.Load())
	return float64(len(r.ended)) / took.Seconds()
}

func since(from, to []atomic.Int64) Spread {
	s := &samples{}
	for i := range from {
		if a, b := from[i].Load(), to[i].Load(); a > 0 && b > 0 {
			s.add(time.Duration(b - a))
		}
	}
	return s.spread()
}
