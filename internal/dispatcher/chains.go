package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// readAttempts reads from the chain what earlier attempts mean for the next one; errUnderWay when the chain has moved on
// and the job does not wait any more.
func (d *Dispatcher) readAttempts(ctx context.Context, o *owned) error {
	chain, err := d.q.Chain(ctx, o.job.Tenant, o.job.ID)
	if err != nil {
		return err
	}
	if len(chain) == 0 {
		return errEmptyChain
	}
	last := &chain[len(chain)-1]
	if !waits(last.EventKind) {
		return errUnderWay
	}
	o.last = last.ChainSequence
	attempts := attemptsOf(chain)
	o.attempt = startedIn(chain) + 1
	o.avoid = failure.Decide(attempts, o.job.Policy(), failure.Evidence{}).Avoid
	for i := range chain {
		switch e := &chain[i]; e.EventKind {
		case job.Retrying:
			o.reason = ""
			o.avoidUntil, o.notBefore = orZero(e.AvoidUntil), orZero(e.NotBefore)
		case job.Waiting:
			o.reason = e.Reason
		default:
			o.reason = ""
		}
	}
	return nil
}

func attemptsOf(chain []queue.Link) []failure.Attempt {
	var attempts []failure.Attempt
	for i := range chain {
		if chain[i].EventKind == job.Failed {
			attempts = append(attempts, chain[i].Failure())
		}
	}
	return attempts
}

func startedIn(chain []queue.Link) int {
	n := 0
	for i := range chain {
		if chain[i].EventKind == job.Started {
			n = max(n+1, chain[i].Attempt)
		}
	}
	return n
}

func sequenceIn(chain []queue.Link) uint64 {
	for i := len(chain) - 1; i >= 0; i-- { // the last one counts: a job that was taken out of the stream and published again has several
		if chain[i].Sequence != 0 {
			return chain[i].Sequence
		}
	}
	return 0
}

func indexOf(chain []queue.Link, sequence uint64) int {
	for i := range chain {
		if chain[i].ChainSequence == sequence {
			return i
		}
	}
	return -1
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
