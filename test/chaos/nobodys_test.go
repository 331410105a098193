//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// storeWords are how NATS and its client say that a file cannot be stored.
var storeWords = []string{"maximum bytes", "store file", "stream not found", "bucket not found", "no space", "object store", "insufficient storage", "too many requests"}

// storeTrouble finds failed attempts that tell of the store: its trouble is nobody's attempt.
func (c *checker) storeTrouble() []string {
	var found []string
	for key, chain := range c.ledger.chains {
		for _, e := range chain {
			text := strings.ToLower(e.Message)
			tells := slices.ContainsFunc(storeWords, func(w string) bool { return strings.Contains(text, w) })
			if e.EventKind == job.Failed && (e.Cause == failure.Unstorable || tells && e.Kind != failure.HostSick) {
				found = append(found, fmt.Sprintf("%s attempt %d failed with %q: %s", key, e.Attempt, e.Message, kinds(chain)))
			}
		}
	}
	return found
}

// clockMost is how far the time in an event may be from when NATS stored it: an event waits while its writer is frozen or
// cut from NATS, but no hour.
const clockMost = 5 * time.Minute

// wrongTimes finds times of a wrong clock in what was stored.
func (c *checker) wrongTimes() []string {
	var found []string
	for key, chain := range c.ledger.chains {
		for _, e := range chain {
			if off := e.Time.Sub(e.at); off.Abs() > clockMost {
				found = append(found, fmt.Sprintf("%s: the time of %s is %v off", key, e.EventKind, off.Round(time.Second)))
			}
			for what, at := range map[string]*time.Time{"until": e.Until, "not_before": e.NotBefore, "avoid_until": e.AvoidUntil} {
				if at != nil && at.Sub(e.at).Abs() > 20*time.Minute { // the longest wait is that of a job nobody can run
					found = append(found, fmt.Sprintf("%s: %s of %s is %v off", key, what, e.EventKind, at.Sub(e.at).Round(time.Second)))
				}
			}
		}
	}
	for pair, spans := range c.ledger.blocks {
		for _, b := range spans {
			var block route.Block
			lasts := json.Unmarshal(b.body, &block) == nil && block.Kind.Verdict().Strike == failure.UntilCapable
			if !lasts && b.to.Sub(b.from) > clockMost {
				found = append(found, fmt.Sprintf("%s is blocked for %v", pair, b.to.Sub(b.from).Round(time.Second)))
			}
		}
	}
	return found
}

// backTime is what a host may take to be well again when all that ailed it is over.
const backTime = 30 * time.Second

// sickHosts finds hosts that are not as before: away, out, on trial, or kept from jobs by what was done to them.
func (c *checker) sickHosts() []string {
	var found []string
	c.f.within(backTime, func(ctx context.Context) bool {
		hosts, err := c.f.q.Hosts(ctx)
		if err != nil { // what was found before says more, if anything was
			if found == nil {
				found = []string{err.Error()}
			}
			return false
		}
		found = nil
		for _, name := range c.f.shape.hosts() {
			at := slices.IndexFunc(hosts, func(h queue.HostState) bool { return h.Host == name })
			switch {
			case at < 0:
				found = append(found, name+" is away")
			case hosts[at].State != queue.Online || hosts[at].Trial || hosts[at].Cause != "":
				found = append(found, fmt.Sprintf("%s is %s, cause %q, on trial %v: %s", name, hosts[at].State, hosts[at].Cause, hosts[at].Trial, hosts[at].Reason))
			}
		}
		return len(found) == 0
	})
	return found
}

// innocents has every tenant run every harmless workflow of the storm once more. They must complete: what was done to hosts
// is no workflow's fault. Two hosts that were killed at the same node and progress of a workflow, which a storm brings about,
// look as if it had taken them down; then it is guilty until an operator lets it run, and must run after that.
func (c *checker) innocents() {
	c.f.t.Helper()
	guilty := 0
	for _, key := range c.runAgain("after") {
		chain := c.ledger.chains[key]
		if len(chain) == 0 || chain[len(chain)-1].Reason != string(failure.TakesHostsDown) {
			c.say("a harmless workflow runs again after the storm", fmt.Sprintf("%s: %s", key, kinds(chain)))
			continue
		}
		guilty++
		if !c.pardon(chain[len(chain)-1].Hash) {
			c.say("an operator can let a workflow run", key)
		}
	}
	c.f.t.Logf("workflows under which two hosts were killed in the same way, and that an operator had to let run: %d", guilty)
	if guilty == 0 {
		return
	}
	for _, key := range c.runAgain("pardoned") {
		c.say("a harmless workflow runs again when an operator lets it", fmt.Sprintf("%s: %s", key, kinds(c.ledger.chains[key])))
	}
}

// runAgain publishes a job of every harmless workflow for each tenant and gives those that did not complete.
func (c *checker) runAgain(name string) (lacking []string) {
	c.f.t.Helper()
	var keys []string
	for _, tenant := range tenants {
		for shape := range structures {
			w := wish{sort: plain, priority: 5, color: 0xc0ffee + shape, size: 16, shape: shape, ran: 20 * time.Millisecond}
			id := fmt.Sprintf("%s-%d", name, shape)
			if !c.load.publish(c.f.nc, tenant, id, w, c.load.body(id, w, w.color), w.color) {
				c.f.t.Errorf("%s/%s could not be published", tenant, id)
			}
			keys = append(keys, tenant+"/"+id)
		}
	}
	c.f.within(testTimeout, func(context.Context) bool {
		return c.ledger.readOn(c.f.nc, answerTime) == nil && !slices.ContainsFunc(keys, func(key string) bool { return !c.ledger.ended(key) })
	})
	for _, key := range keys {
		if chain := c.ledger.chains[key]; len(chain) == 0 || chain[len(chain)-1].EventKind != job.Completed {
			lacking = append(lacking, key)
		}
	}
	return lacking
}

// pardon does what `dispatcher blocks clear --hash` does.
func (c *checker) pardon(hash workflow.Hash) bool {
	return c.f.within(testTimeout, func(context.Context) bool {
		answer, err := c.f.nc.Request("comfy.api.unblock", encode(c.f.t, map[string]any{"hash": hash}), time.Second)
		return err == nil && answer.Header.Get("Nats-Service-Error") == ""
	})
}
