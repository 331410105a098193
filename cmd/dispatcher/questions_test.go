package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// until runs a command until its output has all words: the dispatchers receive a change a moment later.
func (f *fleet) until(t *testing.T, args []string, words ...string) {
	t.Helper()
	var out, say string
	eventually(t, func() bool {
		_, out, say = f.ask(t, "", args...)
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out+say, w) })
	}, func() string { return fmt.Sprintf("%v: waited in vain for %q in %q %q", args, words, out, say) })
}

// eventually asks again and again until something is done, and fails with its text when it never is.
func eventually(t *testing.T, done func() bool, text func() string) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(text())
		}
	}
}

// file writes a workflow and gives its path and its hash.
func file(t *testing.T, body string) (path, hash string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "workflow_api.json")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := workflow.HashOf([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return path, string(h)
}

func TestRulesAreWrittenReadAndRemovedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	path, hash := file(t, picture)

	f.expect(t, 0, []string{"affinity"}, "no workflow is tied to hosts")
	f.expect(t, 0, []string{"why", path}, "a host may take it at once", "HOST", "MAY", "sim", "yes", "eligible")
	f.expect(t, 0, []string{"affinity", "set", path, "--exclude=sim", "--prefer=gpu=4090"}, "PREFER", "EXCLUDE", hash, "gpu=4090", "sim")
	f.until(t, []string{"why", path}, "every online host that can run it is excluded", "sim", "no", "excluded by the workflow's affinity")
	f.expect(t, 0, []string{"affinity", "list"}, hash, "gpu=4090", "sim")
	code, out, _ := f.ask(t, "", "affinity", "list", "--json")
	var rules map[string]struct{ Prefer, Exclude []string }
	if err := json.Unmarshal([]byte(out), &rules); err != nil || code != 0 || len(rules) != 1 || !slices.Equal(rules[hash].Exclude, []string{"sim"}) {
		t.Errorf("affinity list: code %d, %q, %v", code, out, err)
	}
	f.expect(t, 0, []string{"affinity", "set", hash, "--prefer=sim"}, hash, "sim") // the whole rule, not a part
	f.until(t, []string{"why", path}, "a host may take it at once", "eligible")
	f.expect(t, 0, []string{"affinity", "rm", path}, hash+" is tied to no host")
	f.expect(t, 0, []string{"affinity", "list"}, "no workflow is tied to hosts")
	f.expect(t, 1, []string{"affinity", "set", path}, "give --prefer or --exclude, or use `dispatcher affinity rm`")
	f.expect(t, 1, []string{"affinity", "rm", "nothing.json"}, "nothing.json is neither a hash nor a file")

	f.expect(t, 0, []string{"tenants", "list"}, "no tenant has settings of its own: all have weight 1 and the caps of `dispatcher run`")
	f.expect(t, 0, []string{"tenants", "set", "acme", "--weight=2.5"}, "TENANT", "acme", "2.5", "no cap")
	f.expect(t, 0, []string{"tenants", "set", "acme", "--max-running=3"}, "acme", "2.5", "3")
	f.expect(t, 0, []string{"tenants", "set", "bolt", "--max-running=1"}, "bolt", "1")
	f.expect(t, 0, []string{"tenants", "list"}, "MAX RUNNING", "acme", "2.5", "3", "bolt")
	f.expect(t, 1, []string{"tenants", "set", "acme"}, "give --weight, --max-running, --max-priority, --max-unfinished, --max-bytes or --max-file-bytes")
	f.expect(t, 0, []string{"tenants", "set", "acme", "--max-unfinished=5000", "--max-bytes=200MiB"}, "acme", "2.5", "5000", "200 MiB")
	f.expect(t, 1, []string{"tenants", "set", "acme", "--max-unfinished=-1"}, "--max-unfinished=-1 is out of range; give 0 or more")
	f.expect(t, 1, []string{"tenants", "set", "acme", "--weight=0"}, "give 0.001 to 1000000")
	f.expect(t, 1, []string{"tenants", "set", "acme", "--max-running=-1"}, "--max-running=-1 is out of range; give 0 or more")
}

func TestAJobThatWaitsForADrainedHostIsExplained(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	path, hash := file(t, picture)
	if code, _, say := f.ask(t, picture, "submit", "-", "--id=before", "--wait"); code != 0 {
		t.Fatal(say)
	}
	f.until(t, []string{"hosts"}, "sim", "online", "0/1", hash[:8])

	f.expect(t, 0, []string{"hosts", "drain", "sim"}, "sim is draining")
	f.until(t, []string{"hosts"}, "sim", "draining: drained by an operator", "sim was drained by ", "; `dispatcher hosts resume sim` ends that.")
	if code, out, say := f.ask(t, "", "submit", path, "--id=held", "--tenant=acme", "--priority=7"); code != 0 || out != "held\n" {
		t.Fatalf("submit: code %d, %q, %s", code, out, say)
	}
	f.until(t, []string{"queue"}, "TENANT", "PRIORITY", "WAITING", "OLDEST", "acme", "7")
	f.until(t, []string{"why", "acme/held"}, "job held, ", "; place 1 of 1", "sim", "no", "draining", "no host takes jobs now: sim drained (`dispatcher hosts resume` ends that)")
	f.expect(t, 0, []string{"why", path}, "sim", "no", "draining: drained by an operator")
	f.expect(t, 0, []string{"hosts", "resume", "sim"}, "sim is taking jobs")
	f.until(t, []string{"why", "held", "--tenant=acme"}, "job held, completed: it has completed on host sim")
	f.until(t, []string{"hosts"}, "sim", "online", "0/1")
	f.expect(t, 0, []string{"queue", "--json"}, "[")
	f.expect(t, 1, []string{"why", "nobody"}, "nobody")
	f.expect(t, 1, []string{"why", "nowhere.json"}, "nowhere.json")
}

func TestAJobThatIsSubmittedForLaterRunsThen(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	if code, out, say := f.ask(t, picture, "submit", "-", "--id=soon", "--in=6s"); code != 0 || out != "soon\n" {
		t.Fatalf("submit: code %d, %q, %s", code, out, say)
	}
	f.until(t, []string{"status", "soon", "--json"}, `"waiting"`)
	code, _, say := f.ask(t, picture, "submit", "-", "--id=soon", "--wait") // the same id: it waits for the job that is there
	if code != 0 || !strings.Contains(say, "soon: waiting: not due yet") || !strings.Contains(say, "soon: completed on sim") {
		t.Errorf("the wait: code %d, %q", code, say)
	}
	_, out, _ := f.ask(t, "", "status", "soon", "--json")
	var status struct {
		Events []struct {
			Event, Reason string
			Time          time.Time
			Until         time.Time
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range status.Events {
		kinds = append(kinds, e.Event)
	}
	if got := strings.Join(kinds, " "); got != "queued waiting started completed" {
		t.Fatalf("the events are %s", got)
	}
	waits, starts := status.Events[1], status.Events[2]
	if waits.Reason != "not_due" || waits.Until.IsZero() || starts.Time.Before(waits.Until) {
		t.Errorf("it waits for %q until %v, and was started at %v", waits.Reason, waits.Until, starts.Time)
	}
}
