package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mutate runs the command on the module in testdata or a copy of it.
func mutate(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), append([]string{"-C", dir, "-state", filepath.Join(dir, "bin")}, args...), &out); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

func house(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/house")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEveryKindOfChangeIsFound(t *testing.T) {
	t.Parallel()
	want := strings.Split(`18: a && b → true
18: a && b → false
18: a → true
18: b → true
19: true → false
21: n < 3 → false
21: n < 3 → <=
22: n++ → left out
24: a || n == 4 → true
24: a || n == 4 → false
24: a → false
24: n == 4 → false
25: !ok → true
25: !ok → false
29: n = n*2 - 1 → left out
29: n*2 - 1 → +
29: n*2 → /
29: 2 → one more
29: 1 → one more
30: n += max(n, 7) → left out
30: n += max(n, 7) → -=
30: max(n, 7) → min
30: 7 → one more
31: n |= 1 << n → left out
31: n |= 1 << n → &=
31: 1 << n → >>
31: 1 → one more
33: case "x" → never
33: case "y" → never
34: return n → zero
36: return errors.New(s + "!") → zero
42: defer close(out) → left out
44: range rows → no round
45: r.n > 0 → true
45: r.n > 0 → false
45: r.n > 0 → >=
45: 0 → one more
47: continue → left out
49: out <- row{name: r.name, n: 9} → left out
49: name: r.name → zero
49: n: 9 → zero
50: rest = append(rest, r) → left out
52: rest == nil → true
52: rest == nil → false
53: return → left out
55: go statements(rest, nil) → left out`, "\n")
	var got []string
	for _, line := range mutate(t, "testdata/house", "-list", "./kinds") {
		got = append(got, strings.TrimPrefix(line, "kinds/kinds.go:"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lines := mutate(t, house(t), "./kinds")
	all := "./kinds: 46 changes: 0 killed, 0 hung, 0 survived, 46 unreached, 0 not tried; 0 more do not compile"
	if got := lines[len(lines)-1]; got != all {
		t.Errorf("%s, want %s", got, all)
	}
}

func TestALineSurvivesWhenItsTestIsRemoved(t *testing.T) {
	t.Parallel()
	dir := house(t)
	want := []string{"./lease: 6 changes: 6 killed, 0 hung, 0 survived, 0 unreached, 0 not tried; 0 more do not compile"}
	if diff := cmp.Diff(want, mutate(t, dir, "./lease")); diff != "" {
		t.Errorf("with all tests: %s", diff)
	}
	if err := os.Remove(filepath.Join(dir, "lease/limit_test.go")); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"survived   lease/lease.go:9: age > limit → >=   (1 tests reach it)",
		"./lease: 6 changes: 5 killed, 0 hung, 1 survived, 0 unreached, 0 not tried; 0 more do not compile",
	}
	if diff := cmp.Diff(want, mutate(t, dir, "./lease")); diff != "" {
		t.Errorf("without the test of the limit: %s", diff)
	}
}

func TestALineThatNoTestRunsIsUnreached(t *testing.T) {
	t.Parallel()
	dir := house(t)
	few := "package lease_test\n\nimport (\n\t\"testing\"\n\n\t\"example.com/house/lease\"\n)\n\nfunc TestHeld(t *testing.T) {\n\tif lease.Expired(5, 4, true) {\n\t\tt.Fail()\n\t}\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "lease/lease_test.go"), []byte(few), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "lease/limit_test.go")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"survived   lease/lease.go:6: held → true   (1 tests reach it)",
		"unreached  lease/lease.go:9: age > limit → true",
		"unreached  lease/lease.go:9: age > limit → false",
		"unreached  lease/lease.go:9: age > limit → >=",
	}
	got := mutate(t, dir, "./lease")
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Error(diff)
	}
}

func TestChangesThatWereKilledAreLeftOutOfTheNextRunOnRequest(t *testing.T) {
	t.Parallel()
	dir := house(t)
	mutate(t, dir, "./lease")
	// Without the tests nothing could be killed again.
	for _, name := range []string{"lease_test.go", "limit_test.go"} {
		text := "package lease_test\n\nimport \"testing\"\n\nfunc TestOf_" + name[:5] + "(*testing.T) {}\n"
		if err := os.WriteFile(filepath.Join(dir, "lease", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"./lease: 6 changes: 6 killed, 0 hung, 0 survived, 0 unreached, 0 not tried; 0 more do not compile"}
	if diff := cmp.Diff(want, mutate(t, dir, "-resume", "./lease")); diff != "" {
		t.Error(diff)
	}
}

func TestWhatHasSurvivedIsTriedAgainAfterWhatIsNew(t *testing.T) {
	t.Parallel()
	dir := house(t)
	if err := os.Remove(filepath.Join(dir, "lease/limit_test.go")); err != nil {
		t.Fatal(err)
	}
	mutate(t, dir, "./lease")
	want := []string{
		"survived   lease/lease.go:9: age > limit → >=   (in a former run)",
		"./lease: 6 changes: 5 killed, 0 hung, 1 survived, 0 unreached, 0 not tried; 0 more do not compile",
	}
	if diff := cmp.Diff(want, mutate(t, dir, "-resume", "-time", "0s", "./lease")); diff != "" {
		t.Errorf("without time: %s", diff)
	}
	other := "package lease_test\n\nimport \"testing\"\n\nfunc TestOther(*testing.T) {}\n"
	if err := os.WriteFile(filepath.Join(dir, "lease/other_test.go"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, mutate(t, dir, "-resume", "-run", "Other", "./lease")); diff != "" {
		t.Errorf("with a test that does not reach it: %s", diff)
	}
	want[0] = "survived   lease/lease.go:9: age > limit → >=   (1 tests reach it)"
	if diff := cmp.Diff(want, mutate(t, dir, "-resume", "./lease")); diff != "" {
		t.Errorf("with time: %s", diff)
	}
}

func TestASlowTestIsLeftOutOnRequest(t *testing.T) {
	t.Parallel()
	dir := house(t)
	slow := "package lease_test\n\nimport \"testing\"\n\nfunc TestThatNeverEnds(t *testing.T) { <-t.Context().Done() }\n"
	if err := os.WriteFile(filepath.Join(dir, "lease/limit_test.go"), []byte(slow), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"survived   lease/lease.go:9: age > limit → >=   (1 tests reach it)",
		"left out   TestThatNeverEnds takes more than 200ms",
		"./lease: 6 changes: 5 killed, 0 hung, 1 survived, 0 unreached, 0 not tried; 0 more do not compile",
	}
	if diff := cmp.Diff(want, mutate(t, dir, "-slow", "200ms", "./lease")); diff != "" {
		t.Error(diff)
	}
}
