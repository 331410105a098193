package failure_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestEveryKindHasAVerdictAndAText(t *testing.T) {
	t.Parallel()
	for _, kind := range failure.Kinds() {
		if !kind.Valid() {
			t.Errorf("%s has no verdict", kind)
		}
		if v := kind.Verdict(); v.Summary == "" || v.Strike.String() == "" || v.Next.String() == "" || v.Counts.String() == "" {
			t.Errorf("%s: a column of its row is empty: %+v", kind, v)
		}
	}
	if failure.Kind("mood").Valid() {
		t.Error(`"mood" passes as a kind`)
	}
	if got := failure.Kind("mood").Verdict(); got != failure.Lost.Verdict() {
		t.Errorf("an unknown kind is judged %+v, not as lost", got)
	}
}

func TestKindOfFindsTheFailureThroughWraps(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("run job: %w", failure.New(failure.HostSick, "disk full"))
	if got := failure.KindOf(wrapped); got != failure.HostSick {
		t.Errorf("KindOf(wrapped) = %s", got)
	}
	if got := failure.KindOf(errors.New("no idea")); got != failure.Lost {
		t.Errorf("KindOf(foreign) = %s", got)
	}
	if got := failure.KindOf(nil); got != "" {
		t.Errorf("KindOf(nil) = %q", got)
	}
}

func at(host string, kind failure.Kind, message string) failure.Attempt {
	return failure.Attempt{Host: host, Kind: kind, Message: message, Exception: "ValueError", Class: "KSampler"}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	raise := failure.ExecutionError
	cases := map[string]struct {
		attempts []failure.Attempt
		max      int
		want     failure.Decision
	}{
		"NoAttemptYetTries": {nil, 0, failure.Decision{}},
		"InvalidWorkflowIsDeadAtOnce": {
			[]failure.Attempt{at("a", failure.InvalidWorkflow, "x")}, 0,
			failure.Decision{Dead: true, Reason: failure.NotRetryable, Avoid: []string{"a"}, Delay: time.Second},
		},
		"FirstExecutionErrorGoesElsewhere": {
			[]failure.Attempt{at("a", raise, "x")}, 0,
			failure.Decision{Avoid: []string{"a"}, Delay: time.Second, Counted: true},
		},
		"SameErrorOnTwoHostsIsTheWorkflow": {
			[]failure.Attempt{at("a", raise, "bad size 12 in /home/a/x.py"), at("b", raise, "bad size 99 in /srv/b/x.py")}, 0,
			failure.Decision{Dead: true, Reason: failure.WorkflowFault, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"SameErrorTwiceOnOneHostIsNot": {
			[]failure.Attempt{at("a", raise, "x"), at("a", raise, "x")}, 0,
			failure.Decision{Avoid: []string{"a"}, Delay: 2 * time.Second, Counted: true},
		},
		"AnotherErrorOnTheSecondHostIsNot": {
			[]failure.Attempt{at("a", raise, "x"), at("b", raise, "y")}, 0,
			failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"TwoHostsDownIsEnough": {
			[]failure.Attempt{at("a", failure.HostLost, "x"), at("b", failure.HostLost, "y")}, 9,
			failure.Decision{Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"AWorkerThatDiedIsAHostDown": {
			[]failure.Attempt{{Host: "a", Kind: failure.HostSick, Exception: failure.WorkerDied}, at("b", failure.HostLost, "y")}, 9,
			failure.Decision{Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"TwoFullDisksAreNoFaultOfTheJob": {
			[]failure.Attempt{at("a", failure.HostSick, "no space"), at("b", failure.HostSick, "no space")}, 9,
			failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"BusyNeverCountsAndWaits": {
			[]failure.Attempt{at("a", failure.RejectedBusy, "x")}, 1,
			failure.Decision{Later: true, Delay: time.Second},
		},
		"InterruptedOnceIsFree": {
			[]failure.Attempt{at("a", failure.Interrupted, "x")}, 1,
			failure.Decision{Delay: time.Second},
		},
		"InterruptedTwiceIsDead": {
			[]failure.Attempt{at("a", failure.Interrupted, "x"), at("b", failure.Interrupted, "x")}, 9,
			failure.Decision{Dead: true, Reason: failure.NotRetryable, Delay: 2 * time.Second, Counted: true},
		},
		"AttemptsRunOut": {
			[]failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Lost, "x")}, 2,
			failure.Decision{Dead: true, Reason: failure.AttemptsExhausted, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"DrainedIsFree": {
			[]failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Drained, "x")}, 2,
			failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure.Decide(c.attempts, failure.Policy{MaxAttempts: c.max})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheDelayDoublesUpToFiveMinutesAndIsNeverShorterThanTheJobAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		asked  time.Duration
		failed int
		want   time.Duration
	}{
		{0, 1, time.Second}, {0, 4, 8 * time.Second}, {time.Minute, 3, 4 * time.Minute}, {time.Minute, 4, 5 * time.Minute},
		{time.Minute, 400, 5 * time.Minute}, {time.Hour, 1, time.Hour}, {time.Hour, 9, time.Hour},
	} {
		attempts := make([]failure.Attempt, c.failed)
		for i := range attempts {
			attempts[i] = at("a", failure.RejectedBusy, "x")
		}
		if got := failure.Decide(attempts, failure.Policy{RetryDelay: c.asked}).Delay; got != c.want {
			t.Errorf("asked for %v, after %d attempts: %v, want %v", c.asked, c.failed, got, c.want)
		}
	}
}

func TestNormaliseRemovesNumbersAndPaths(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)": "mat# and mat# shapes cannot be multiplied (#x# and #x#)",
		"tried 3.5 GiB at 0xdeadbeef":                                     "tried # GiB at #",
		`no such file C:\models\a.ckpt or /srv/a.ckpt`:                    "no such file / or /",
		"": "",
	}
	for in, want := range cases {
		if got := failure.Normalise(in); got != want {
			t.Errorf("Normalise(%q) = %q, want %q", in, got, want)
		}
	}
}
