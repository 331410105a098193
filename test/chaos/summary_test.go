//go:build unix

package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// summary prints what happened.
func (c *checker) summary() {
	ends, failed, retries := map[string]int{}, map[string]int{}, 0
	for _, chain := range c.ledger.chains {
		for _, e := range chain {
			switch e.EventKind {
			case job.Completed, job.Cancelled:
				ends[string(e.EventKind)]++
			case job.Dead:
				ends["dead "+e.Reason]++
			case job.Failed:
				failed[string(e.Kind)]++
			case job.Retrying:
				retries++
			case job.Queued, job.Waiting, job.Started:
			}
		}
	}
	blocks := 0
	for _, spans := range c.ledger.blocks {
		blocks += len(spans)
	}
	slowest, key := c.slowestRecovery()
	c.f.t.Logf("jobs %d (acked publishes %d, publishes sent again %d, cancels answered %d)\nends %s\nfailed attempts %s, retries %d, blocks %d\ndone to them: %s\n"+
		"executions %d, double executions by leases that ran out %d of %d leases, by hosts out of reach %d\nslowest recovery at priority 9 %v (%s); checks without NATS %d",
		len(c.ledger.chains), c.load.acks, c.load.repeats, c.load.cancels, list(ends), list(failed), retries, blocks, c.story.list(),
		len(c.runs), c.doubles.leases, failed[string(failure.Lost)], c.doubles.unreachable, slowest.Round(time.Millisecond), key, c.blind)
}

// slowestRecovery is the longest time from a fault of a host or its agent until the job that it hit ran again or had ended. Only jobs
// of the first priority count: the others also wait for their turn.
func (c *checker) slowestRecovery() (slowest time.Duration, which string) {
	for key, chain := range c.ledger.chains {
		for i, e := range chain {
			if e.Priority != 9 || e.EventKind != job.Failed || e.Kind != failure.Lost && e.Kind != failure.HostLost {
				continue
			}
			hit, found := c.story.before(e.at, e.Host, c.f.agentOf(e.Host))
			at := slices.IndexFunc(chain[i:], func(e event) bool { return e.EventKind == job.Started || e.EventKind.Terminal() })
			if !found || at < 0 || hit.from.Before(chain[i-1].at) {
				continue
			}
			if took := chain[i+at].at.Sub(hit.from); took > slowest {
				slowest, which = took, key+": "+kinds(chain)
			}
		}
	}
	return slowest, which
}

func list(n map[string]int) string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(n)) {
		text = append(text, fmt.Sprintf("%s %d", key, n[key]))
	}
	return strings.Join(text, ", ")
}

func (s *story) list() string {
	n := map[string]int{}
	whom := map[byte]string{'a': "agent", 'd': "dispatcher", 'h': "host", 'n': "NATS", 'O': "outputs"}
	for what, by := range s.counts() {
		for kind, times := range by {
			n[string(what)+" "+whom[kind]] = times
		}
	}
	return list(n)
}
