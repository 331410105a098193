package integration_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// within checks that a time lies between a delay and that with a quarter of jitter on top, after another.
func within(t *testing.T, what string, at, from time.Time, delay time.Duration) {
	t.Helper()
	const late = 500 * time.Millisecond // between the decision and the event's own time
	if got := at.Sub(from); got < delay-late || got > delay+delay/4+late {
		t.Errorf("%s lies %v ahead, want %v and up to a quarter more", what, got, delay)
	}
}

func TestTheRetryDelayHoldsOnlyBeforeAHostThatFailedTheJob(t *testing.T) {
	t.Parallel()
	raise := []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Times: 1}}
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: raise}, {Name: "b"}}})
	chain := f.chain(f.submit("acme", job.Spec{Workflow: inverted(1, 1), PreferHosts: []string{"a"}, RetryDelay: job.Duration(time.Hour)}))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	retrying := chain[3]
	if retrying.NotBefore == nil || retrying.NotBefore.After(retrying.Time) || len(retrying.AvoidedHosts) != 1 || retrying.AvoidedHosts[0] != "a" {
		t.Errorf("retrying says not before %v, avoiding %v", retrying.NotBefore, retrying.AvoidedHosts)
	}
	within(t, "the failing host's next turn", *retrying.AvoidUntil, retrying.Time, time.Hour)
}

func TestTheRetryDelayDoublesBeforeTheOnlyHost(t *testing.T) {
	t.Parallel()
	raise := []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Times: 2}}
	f := start(t, setup{
		dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: raise}},
		config: dispatcher.Config{Policy: route.Policy{Cooldown: time.Hour, Cap: time.Hour, MaxFailures: 9}},
	})
	r := f.submit("acme", job.Spec{Workflow: inverted(1, 1), RetryDelay: job.Duration(time.Second)})
	for n, delay := range []time.Duration{time.Second, 2 * time.Second} {
		retrying, started := f.nth(r, job.Retrying, n), f.nth(r, job.Started, n+1)
		within(t, "the only host's next turn", *retrying.AvoidUntil, retrying.Time, delay)
		if started.Time.Before(*retrying.AvoidUntil) {
			t.Errorf("attempt %d started at %v, before %v", started.Attempt, started.Time, retrying.AvoidUntil)
		}
	}
	if end := f.end(r); end.EventKind != job.Completed || end.Attempt != 3 {
		t.Errorf("ended %s in attempt %d", end.EventKind, end.Attempt)
	}
}

func TestAHostThatIsBusyIsAskedAgainAfterTheRetryDelay(t *testing.T) {
	t.Parallel()
	busy := []comfysim.Fault{{Kind: comfysim.FaultRefuse, Status: http.StatusTooManyRequests, Times: 1}}
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: busy}, {Name: "b"}}})
	r := f.submit("acme", job.Spec{Workflow: picture(1), MaxAttempts: 1, PreferHosts: []string{"a"}, RetryDelay: job.Duration(time.Second)})
	retrying, started := f.await(r, job.Retrying), f.nth(r, job.Started, 1)
	if len(retrying.AvoidedHosts) != 0 {
		t.Errorf("a busy host is avoided: %v", retrying.AvoidedHosts)
	}
	within(t, "the next attempt", *retrying.NotBefore, retrying.Time, time.Second)
	if started.Time.Before(*retrying.NotBefore) || started.Attempt != 2 {
		t.Errorf("attempt %d started at %v, before %v", started.Attempt, started.Time, retrying.NotBefore)
	}
	if end := f.end(r); end.EventKind != job.Completed {
		t.Errorf("ended %s: a busy host must not count as an attempt", end.EventKind)
	}
}
