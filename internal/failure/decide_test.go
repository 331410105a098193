package failure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

func at(host string, kind failure.Kind, message string) failure.Attempt {
	return failure.Attempt{Host: host, Kind: kind, Message: message, Exception: "ValueError", Class: "KSampler"}
}

// lost is an attempt that ended with its host at a node, at a progress and after seconds.
func lost(host, node string, progress, seconds float64) failure.Attempt {
	return failure.Attempt{
		Host: host, Kind: failure.HostLost, Message: "gone", Node: node, Class: "KSampler", Progress: progress,
		NodeRan: time.Duration(seconds * float64(time.Second)),
	}
}

func proven(a failure.Attempt) failure.Attempt {
	a.Proven = true
	return a
}

func waited(a failure.Attempt) failure.Attempt {
	a.Waited = true
	return a
}

func classless(a failure.Attempt) failure.Attempt {
	a.Class = ""
	return a
}

func sick(a failure.Attempt) failure.Attempt {
	a.Kind = failure.HostSick
	return a
}

func TestDecide(t *testing.T) {
	t.Parallel()
	raise, refused := failure.ExecutionError, failure.Refused
	full := failure.Attempt{Host: "a", Kind: failure.HostSick, Message: "no space", Cause: failure.DiskFull}
	cases := map[string]struct {
		attempts []failure.Attempt
		max      int
		known    failure.Evidence
		want     failure.Decision
	}{
		"NoAttemptYetTries": {want: failure.Decision{}},
		"InvalidWorkflowIsDeadAtOnce": {
			attempts: []failure.Attempt{at("a", failure.InvalidWorkflow, "x")},
			want:     failure.Decision{Dead: true, Reason: failure.NotRetryable, Avoid: []string{"a"}, Delay: time.Second},
		},
		"FirstExecutionErrorGoesElsewhere": {
			attempts: []failure.Attempt{at("a", raise, "x")},
			want:     failure.Decision{Avoid: []string{"a"}, Delay: time.Second, Counted: true},
		},
		"SameErrorOnTwoHostsIsTheWorkflow": {
			attempts: []failure.Attempt{at("a", raise, "bad size 12 in /home/a/x.py"), at("b", raise, "bad size 99 in /srv/b/x.py")},
			want:     failure.Decision{Dead: true, Reason: failure.WorkflowFault, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"SameErrorTwiceOnOneHostIsNot": {
			attempts: []failure.Attempt{at("a", raise, "x"), at("a", raise, "x")},
			want:     failure.Decision{Avoid: []string{"a"}, Delay: 2 * time.Second, Counted: true},
		},
		"AnotherErrorOnTheSecondHostIsNot": {
			attempts: []failure.Attempt{at("a", raise, "x"), at("b", raise, "y")},
			want:     failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"BusyNeverCountsAndWaits": {
			attempts: []failure.Attempt{at("a", failure.RejectedBusy, "x")}, max: 1,
			want: failure.Decision{Later: true, Delay: time.Second},
		},
		"ANodeThatReachesNothingOutsideWaitsAndCounts": {
			attempts: []failure.Attempt{at("a", failure.Transient, "x"), at("b", failure.Transient, "x")}, max: 3,
			want: failure.Decision{Later: true, Delay: 2 * time.Second, Counted: true},
		},
		"InterruptedOnceIsFreeAndGoesToAnotherHost": {
			attempts: []failure.Attempt{at("a", failure.Interrupted, "x")}, max: 1,
			want: failure.Decision{Avoid: []string{"a"}, Delay: time.Second},
		},
		"InterruptedTwiceIsDead": {
			attempts: []failure.Attempt{at("a", failure.Interrupted, "x"), at("b", failure.Interrupted, "x")}, max: 9,
			want: failure.Decision{Dead: true, Reason: failure.NotRetryable, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"AttemptsRunOut": {
			attempts: []failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Lost, "x")}, max: 2,
			want: failure.Decision{Dead: true, Reason: failure.AttemptsExhausted, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"DrainedIsFree": {
			attempts: []failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Drained, "x")}, max: 2,
			want: failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second},
		},

		"TwoHostsThatGoDownAlikeAreEnough": {
			attempts: []failure.Attempt{lost("a", "3", 0.35, 70), lost("b", "3", 0.35, 20)}, max: 9,
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true,
				Message: "two hosts went down in the same way at node 3 (KSampler): a: gone; b: gone", Guilt: &failure.Loss{Attempt: lost("a", "3", 0.35, 70)},
			},
		},
		"OfWhichNobodyKnowsMoreAlsoWhenOneIsMerelySick": {
			attempts: []failure.Attempt{lost("a", "", 0, 0), sick(lost("b", "", 0, 0))}, max: 1,
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true,
				Message: "two hosts went down in the same way: a: gone; b: gone", Guilt: &failure.Loss{Attempt: lost("a", "", 0, 0)},
			},
		},
		"TheFirstAndTheThirdAreAlikeToo": {
			attempts: []failure.Attempt{lost("a", "3", 0, 10), lost("b", "4", 0, 10), lost("c", "3", 0, 10.9)}, max: 9,
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b", "c"}, Delay: 4 * time.Second, Counted: true,
				Message: "two hosts went down in the same way at node 3 (KSampler): a: gone; c: gone", Guilt: &failure.Loss{Attempt: lost("a", "3", 0, 10)},
			},
		},
		"TwoRestartsInGoodOrderAreNot": {
			attempts: []failure.Attempt{lost("a", "3", 0.35, 70), lost("b", "3", 0.4, 80)}, max: 1, known: failure.Evidence{Back: []string{"a"}},
			want: failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"AHostThatHasNotComeBackCounts": {
			attempts: []failure.Attempt{lost("a", "3", 0, 5), lost("b", "3", 0, 9)}, max: 1,
			want: failure.Decision{Dead: true, Reason: failure.AttemptsExhausted, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"OneThatHasJustGoneHasTimeToComeBack": {
			attempts: []failure.Attempt{lost("a", "3", 0, 5)}, max: 1,
			want: failure.Decision{Avoid: []string{"a"}, Delay: time.Second, Counted: true},
		},
		"AHostThatGoesDownInTheSameWayEachTimeCounts": {
			attempts: []failure.Attempt{lost("a", "3", 0.5, 7), lost("a", "3", 0.5, 7)}, max: 1, known: failure.Evidence{Back: []string{"a"}},
			want: failure.Decision{Dead: true, Reason: failure.AttemptsExhausted, Avoid: []string{"a"}, Delay: 2 * time.Second, Counted: true},
		},
		"TheLossOfAnotherJobOfTheWorkflowCountsToo": {
			attempts: []failure.Attempt{lost("b", "3", 0, 9)}, known: failure.Evidence{Others: []failure.Loss{{Attempt: lost("a", "3", 0, 9.4), Job: "j"}}},
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"b"}, Delay: time.Second, Counted: true,
				Message: "two hosts went down in the same way at node 3 (KSampler): a with job j, and b: gone", Guilt: &failure.Loss{Attempt: lost("a", "3", 0, 9.4), Job: "j"},
			},
		},
		"ButNotOfTheSameHost": {
			attempts: []failure.Attempt{lost("a", "3", 0, 9)}, known: failure.Evidence{Others: []failure.Loss{{Attempt: lost("a", "3", 0, 9), Job: "j"}}},
			want: failure.Decision{Avoid: []string{"a"}, Delay: time.Second, Counted: true},
		},
		"TwoFullDisksThatAreProvenAreNoFaultOfTheJob": {
			attempts: []failure.Attempt{proven(full), proven(failure.Attempt{Host: "b", Kind: failure.HostSick, Message: "no space"})}, max: 1,
			want: failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second},
		},
		"NorIsAHostThatIsBarred": {
			attempts: []failure.Attempt{proven(at("a", refused, "HTTP 401")), proven(at("b", refused, "HTTP 401"))}, max: 1, known: failure.Evidence{None: true},
			want: failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second},
		},

		"OneHostsRefusalIsThatHosts": {
			attempts: []failure.Attempt{at("a", refused, "x")}, max: 1,
			want: failure.Decision{Avoid: []string{"a"}, Delay: 5 * time.Minute},
		},
		"TheSameRefusalOnTwoHostsIsTheWorkflow": {
			attempts: []failure.Attempt{at("a", refused, "x 1"), at("b", refused, "x 2")},
			want: failure.Decision{
				Dead: true, Reason: failure.WorkflowFault, Message: "a: x 1; b: x 2", Avoid: []string{"a", "b"}, Delay: 2 * time.Second,
			},
		},
		"UnlessAHostIsKnownToHaveWhatTheyLack": {
			attempts: []failure.Attempt{at("a", refused, "x"), at("b", refused, "x")}, known: failure.Evidence{Better: true},
			want: failure.Decision{Avoid: []string{"a", "b"}, Delay: 5 * time.Minute},
		},
		"WhichDoesNotComeForAllThatOneHostIsAsked": {
			attempts: []failure.Attempt{at("a", refused, "x"), at("a", refused, "x")}, max: 1, known: failure.Evidence{Better: true},
			want: failure.Decision{
				Dead: true, Reason: failure.AttemptsExhausted, Message: "a: x", Avoid: []string{"a"}, Delay: 2 * time.Second, Counted: true,
			},
		},
		"EveryHostRefusesInItsOwnWords": {
			attempts: []failure.Attempt{at("a", refused, "x"), at("b", refused, "y")}, known: failure.Evidence{None: true},
			want: failure.Decision{
				Dead: true, Reason: failure.NotRetryable, Message: "a: x; b: y", Avoid: []string{"a", "b"}, Delay: 2 * time.Second,
			},
		},
		"ABetterHostMattersOnlyToARefusal": {
			attempts: []failure.Attempt{at("a", raise, "x"), at("b", raise, "x")}, known: failure.Evidence{Better: true},
			want: failure.Decision{Dead: true, Reason: failure.WorkflowFault, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true},
		},
		"ThatEveryHostHasRefusedMattersOnlyToARefusal": {
			attempts: []failure.Attempt{at("a", raise, "x")}, known: failure.Evidence{None: true},
			want: failure.Decision{Avoid: []string{"a"}, Delay: time.Second, Counted: true},
		},
		"OtherFailuresAreNoInterruption": {
			attempts: []failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Interrupted, "x")},
			want:     failure.Decision{Avoid: []string{"a", "b"}, Delay: 2 * time.Second},
		},
		"TheMessageNamesRefusalsAndNothingElse": {
			attempts: []failure.Attempt{at("a", failure.Timeout, "late"), proven(at("b", refused, "HTTP 401")), at("c", refused, "x")},
			known:    failure.Evidence{None: true},
			want: failure.Decision{
				Dead: true, Reason: failure.NotRetryable, Message: "c: x", Avoid: []string{"a", "b", "c"}, Delay: 4 * time.Second,
			},
		},
		"ALongMessageIsCut": {
			attempts: []failure.Attempt{at("a", refused, strings.Repeat("é", 300)), at("b", refused, strings.Repeat("z", 301))},
			known:    failure.Evidence{None: true},
			want: failure.Decision{
				Dead: true, Reason: failure.NotRetryable, Message: "a: " + strings.Repeat("é", 300) + "; b: " + strings.Repeat("z", 300) + "…",
				Avoid: []string{"a", "b"}, Delay: 2 * time.Second,
			},
		},
		"AnAttemptThatReachedNoHostAvoidsNone": {
			attempts: []failure.Attempt{at("", failure.Lost, "x")},
			want:     failure.Decision{Delay: time.Second, Counted: true},
		},
		"TheMessageNamesTheNodeThatIsKnown": {
			attempts: []failure.Attempt{lost("a", "3", 0, 0.3), lost("b", "", 0, 0)}, max: 9,
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true,
				Message: "two hosts went down in the same way at node 3 (KSampler): a: gone; b: gone", Guilt: &failure.Loss{Attempt: lost("a", "3", 0, 0.3)},
			},
		},
		"OrTheLastOnesWhenBothAre": {
			attempts: []failure.Attempt{lost("a", "4", 0, 0.3), classless(lost("b", "3", 0, 0.3))}, max: 9,
			want: failure.Decision{
				Dead: true, Reason: failure.TakesHostsDown, Avoid: []string{"a", "b"}, Delay: 2 * time.Second, Counted: true,
				Message: "two hosts went down in the same way at node 3: a: gone; b: gone", Guilt: &failure.Loss{Attempt: lost("a", "4", 0, 0.3)},
			},
		},
		"ASecondRefusalOfOneHostCounts": {
			attempts: []failure.Attempt{at("a", refused, "x"), at("a", refused, "x")}, max: 1,
			want: failure.Decision{
				Dead: true, Reason: failure.AttemptsExhausted, Message: "a: x", Avoid: []string{"a"}, Delay: 2 * time.Second, Counted: true,
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure.Decide(c.attempts, failure.Policy{MaxAttempts: c.max}, c.known)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAJobThatLosesOrIsRefusedByManyHostsComesToAnEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		next   func(n int) failure.Attempt
		known  failure.Evidence
		after  int
		reason failure.Reason
	}{
		"HostsThatAllComeBack": {
			next:  func(n int) failure.Attempt { return lost(fmt.Sprint("h", n), fmt.Sprint(n), 0, 1) },
			known: failure.Evidence{Back: hosts(20)}, after: 16, reason: failure.TakesHostsDown,
		},
		"HostsThatDoNot": {
			next:  func(n int) failure.Attempt { return lost(fmt.Sprint("h", n), fmt.Sprint(n), 0, 1) },
			after: 4, reason: failure.AttemptsExhausted,
		},
		"RefusalsInOtherWords": {
			next:  func(n int) failure.Attempt { return at(fmt.Sprint("h", n), failure.Refused, string(rune('a'+n))) },
			after: 8, reason: failure.NotRetryable,
		},
		"RefusalsWhileABetterHostIsKnown": {
			next:  func(n int) failure.Attempt { return at(fmt.Sprint("h", n), failure.Refused, "x") },
			known: failure.Evidence{Better: true}, after: 8, reason: failure.WorkflowFault,
		},
	} {
		var attempts []failure.Attempt
		for n := range 20 {
			attempts = append(attempts, c.next(n))
			d := failure.Decide(attempts, failure.Policy{}, c.known)
			if d.Dead != (n+1 >= c.after) || d.Dead && d.Reason != c.reason {
				t.Errorf("%s, after %d attempts: %+v, want %s after %d", name, n+1, d, c.reason, c.after)
				break
			}
			if d.Dead {
				break
			}
		}
	}
}

func hosts(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("h", i)
	}
	return names
}

func TestLossesAreAlike(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b failure.Attempt
		want bool
	}{
		"AtTheSameStep":                   {lost("a", "3", 0.35, 7), lost("b", "3", 0.35, 70), true},
		"AtAnother":                       {lost("a", "3", 0.35, 7), lost("b", "3", 0.4, 7), false},
		"BeforeAndAfterTheFirstStep":      {lost("a", "3", 0, 7), lost("b", "3", 0.05, 7), false},
		"AtAnotherNode":                   {lost("a", "3", 0, 7), lost("b", "4", 0, 7), false},
		"OnTheSameHost":                   {lost("a", "3", 0, 7), lost("a", "3", 0, 7), false},
		"WithinATenth":                    {lost("a", "3", 0, 90), lost("b", "3", 0, 100), true},
		"BeyondATenth":                    {lost("a", "3", 0, 89), lost("b", "3", 0, 100), false},
		"WithinHalfASecond":               {lost("a", "3", 0, 0.1), lost("b", "3", 0, 0.6), true},
		"BeyondHalfASecond":               {lost("a", "3", 0, 0.1), lost("b", "3", 0, 0.7), false},
		"OneHadNoTimeToTell":              {lost("a", "", 0, 0), lost("b", "3", 0, 0.4), true},
		"OneHadTimeToTell":                {lost("a", "", 0, 0), lost("b", "3", 0, 0.6), false},
		"OneHadComeToAStep":               {lost("a", "", 0, 0), lost("b", "3", 0.05, 0.1), false},
		"BothHadJustBegunWhateverTheNode": {lost("a", "3", 0, 0.5), lost("b", "4", 0, 0.5), true},
		"OneNodeIsUnknown":                {lost("a", "", 0, 7), lost("b", "3", 0, 7), true},
		"AtTheSameStepOfAnUnknownNode":    {lost("a", "", 0.35, 7), lost("b", "3", 0.35, 7), false},
		"NothingIsKnownOfEither":          {lost("a", "", 0, 0), lost("b", "", 0, 0), true},
		"SicknessAndDeath":                {sick(lost("a", "3", 0, 7)), lost("b", "3", 0, 7), true},
		"OneWaitedBehindAnotherPrompt":    {waited(lost("a", "", 0, 0)), lost("b", "", 0, 0), false},
		"BothWaitedBehindAnotherPrompt":   {waited(lost("a", "", 0, 0)), waited(lost("b", "", 0, 0)), false},
		"WhatIsProvenIsTheHosts":          {proven(sick(lost("a", "3", 0, 7))), sick(lost("b", "3", 0, 7)), false},
		"AnErrorIsNoLoss":                 {at("a", failure.ExecutionError, "x"), at("b", failure.ExecutionError, "x"), false},
		"AnAgentThatIsGoneIsNoLossEither": {at("a", failure.Lost, "x"), at("b", failure.Lost, "x"), false},
	} {
		for _, swapped := range []bool{false, true} {
			a, b := c.a, c.b
			if swapped {
				a, b = b, a
			}
			if got := failure.Alike(&a, &b); got != c.want {
				t.Errorf("%s (swapped %t): %t", name, swapped, got)
			}
		}
	}
}

func TestAnAgentSaysWhetherAnAttemptCounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attempts []failure.Attempt
		want     bool
	}{
		"AHostThatWentDown":      {[]failure.Attempt{lost("a", "3", 0, 1)}, true},
		"AHostThatIsProvenSick":  {[]failure.Attempt{proven(sick(lost("a", "3", 0, 1)))}, false},
		"TheFirstRefusal":        {[]failure.Attempt{at("a", failure.Refused, "x")}, false},
		"TheFirstOfAnotherHost":  {[]failure.Attempt{at("a", failure.Refused, "x"), at("b", failure.Refused, "x")}, false},
		"TheSecondOfTheSameHost": {[]failure.Attempt{at("a", failure.Refused, "x"), at("a", failure.Refused, "y")}, true},
		"AfterOneThatWasProven":  {[]failure.Attempt{proven(at("a", failure.Refused, "x")), at("a", failure.Refused, "y")}, false},
		"AfterAnotherFailure":    {[]failure.Attempt{at("a", failure.Timeout, "x"), at("a", failure.Refused, "y")}, false},
		"TheSecondInterruption":  {[]failure.Attempt{at("a", failure.Interrupted, "x"), at("b", failure.Interrupted, "x")}, true},
		"AKindOfANewerAgent":     {[]failure.Attempt{at("a", "mood", "x")}, true},
	} {
		if got := failure.Counts(c.attempts, len(c.attempts)-1); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
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
		if got := failure.Decide(attempts, failure.Policy{RetryDelay: c.asked}, failure.Evidence{}).Delay; got != c.want {
			t.Errorf("asked for %v, after %d attempts: %v, want %v", c.asked, c.failed, got, c.want)
		}
	}
}

func TestASecondOpinionIsTheSameFailureOfAnotherHost(t *testing.T) {
	t.Parallel()
	raise, refused := failure.ExecutionError, failure.Refused
	for name, c := range map[string]struct {
		attempts []failure.Attempt
		want     bool
	}{
		"TheFirst":                    {[]failure.Attempt{at("a", raise, "x")}, false},
		"AnErrorOnTwoHosts":           {[]failure.Attempt{at("a", raise, "x"), at("b", raise, "x")}, true},
		"ARefusalOfTwoHosts":          {[]failure.Attempt{at("a", refused, "x"), at("b", refused, "x")}, true},
		"AnErrorAfterARefusal":        {[]failure.Attempt{at("a", refused, "x"), at("b", raise, "x")}, false},
		"ATimeoutOnTwoHosts":          {[]failure.Attempt{at("a", failure.Timeout, "x"), at("b", failure.Timeout, "x")}, false},
		"TheFirstIsProvenTheHosts":    {[]failure.Attempt{proven(at("a", refused, "x")), at("b", refused, "x")}, false},
		"TheLastIsProvenTheHosts":     {[]failure.Attempt{at("a", refused, "x"), proven(at("b", refused, "x"))}, false},
		"OneHostTwice":                {[]failure.Attempt{at("a", raise, "x"), at("a", raise, "x")}, false},
		"OneHostTwiceAfterAnotherOne": {[]failure.Attempt{at("b", raise, "x"), at("a", raise, "y"), at("a", raise, "x")}, true},
	} {
		if got := failure.SecondOpinion(c.attempts); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestTheSixteenthLossEndsAJobAndSaysHowManyThereWere(t *testing.T) {
	t.Parallel()
	attempts := []failure.Attempt{at("z", failure.Drained, "x")}
	for n := range 15 {
		attempts = append(attempts, lost(fmt.Sprint("h", n), fmt.Sprint(n), 0, 1))
	}
	known := failure.Evidence{Back: hosts(20)}
	if d := failure.Decide(attempts, failure.Policy{}, known); d.Dead {
		t.Errorf("dead after 15: %+v", d)
	}
	attempts = append(attempts, lost("h15", "15", 0, 1))
	d := failure.Decide(attempts, failure.Policy{}, known)
	if want := "16 hosts went down while it ran, the last one: h15: gone"; d.Reason != failure.TakesHostsDown || d.Message != want {
		t.Errorf("%s: %q, want %q", d.Reason, d.Message, want)
	}
	attempts = append(attempts, at("h16", failure.Drained, "x"))
	if d := failure.Decide(attempts, failure.Policy{}, known); d.Dead {
		t.Errorf("a drain after 16 losses ends it: %+v", d)
	}
}

func TestHostsThatHaveRefusedAJobAreListedOnce(t *testing.T) {
	t.Parallel()
	got := failure.RefusedBy([]failure.Attempt{
		at("b", failure.Refused, "x"), at("c", failure.Timeout, "x"), proven(at("d", failure.Refused, "x")), at("a", failure.Refused, "x"), at("b", failure.Refused, "y"),
	})
	if diff := cmp.Diff([]string{"b", "a"}, got); diff != "" {
		t.Error(diff)
	}
}
