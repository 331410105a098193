package failure_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

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

func TestEveryCauseHasASignAndAWayBack(t *testing.T) {
	t.Parallel()
	for _, cause := range failure.Causes() {
		if r := cause.Remedy(); r.Sign == "" || r.Back == "" {
			t.Errorf("%s: %+v", cause, r)
		}
	}
	if r := failure.Cause("mood").Remedy(); r != (failure.Remedy{}) {
		t.Errorf("a cause that is none: %+v", r)
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

func TestAFailureSaysItsKindAndItsMessage(t *testing.T) {
	t.Parallel()
	if got := failure.New(failure.HostSick, "disk full").Error(); got != "host_sick: disk full" {
		t.Error(got)
	}
}

func TestTheClosedSetsAreListed(t *testing.T) {
	t.Parallel()
	kinds := []failure.Kind{
		"invalid_workflow", "incapable", "out_of_memory", "execution_error", "timeout", "host_lost", "host_sick",
		"refused", "transient", "rejected_busy", "lost", "drained", "interrupted",
	}
	if diff := cmp.Diff(kinds, failure.Kinds()); diff != "" {
		t.Error(diff)
	}
	causes := []failure.Cause{"down", "worker_gone", "stuck", "poisoned", "disk_full", "barred", "unstorable"}
	if diff := cmp.Diff(causes, failure.Causes()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryConstantOfAKindIsListedAndHasARow(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("kind.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t\w+ Kind = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(constants) == 0 {
		t.Error("no constant was found in kind.go")
	}
	for _, c := range constants {
		if kind := failure.Kind(c[1]); !kind.Valid() || !slices.Contains(failure.Kinds(), kind) {
			t.Errorf("%s: has a row: %t, is listed: %t", kind, kind.Valid(), slices.Contains(failure.Kinds(), kind))
		}
	}
}

func TestNormaliseRemovesNumbersAndPaths(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)": "mat# and mat# shapes cannot be multiplied (#x# and #x#)",
		"tried 3.5 GiB at 0xdeadbeef":                                     "tried # GiB at #",
		`no such file C:\models\a.ckpt or /srv/a.ckpt`:                    "no such file / or /",
		"0x and a.b stay but 1.5.b does not":                              "#x and a.b stay but #b does not",
		"":                                                                "",
	}
	for in, want := range cases {
		if got := failure.Normalise(in); got != want {
			t.Errorf("Normalise(%q) = %q, want %q", in, got, want)
		}
	}
}
