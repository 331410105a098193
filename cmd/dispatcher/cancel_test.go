package main_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestCancelLeavesRunningJobsAloneUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{JobTimeFor: func(string, map[string]any) time.Duration { return time.Hour }})
	f.publish(t, "--id=runs", "--tenant=acme")
	f.until(t, []string{"jobs", "--tenant=acme"}, "acme/runs", "started", "sim")
	f.expect(t, 0, []string{"cancel", "--all", "--tenant=acme", "--yes"}, "0 jobs cancelled")
	f.expect(t, 1, []string{"cancel", "--all", "--running", "--tenant=acme"}, "cancel all waiting and running jobs of tenant acme: ")
	f.expect(t, 0, []string{"cancel", "--lane=5", "--running", "--tenant=acme", "--yes"}, "1 job cancelled")
	f.expect(t, 3, []string{"wait", "acme/runs"}, "runs: cancelled on sim by ")
	f.expect(t, 1, []string{"cancel", "acme/runs", "--running"}, "--running goes with --lane or --all", "see `dispatcher cancel --help`")
}

func TestAnOperatorWhoNamesNoTenantListsTheJobsOfAll(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	f.publish(t, "--id=first", "--tenant=acme", "--wait")
	f.publish(t, "--id=second", "--wait")
	f.expect(t, 0, []string{"jobs"}, "acme/first ", "second ")
	f.expect(t, 0, []string{"jobs", "--tenant=default", "first"}, "no job matches")
	f.expect(t, 0, []string{"jobs", "--limit=1"}, "second ", "there are more; --limit shows them")
	f.expect(t, 0, []string{"jobs", "--json"}, `"tenant":"acme"`, `"tenant":"default"`)
	f.expect(t, 0, []string{"jobs", "--text=no such text"}, "no job matches")
	f.expect(t, 0, []string{"workflows"}, "HASH", "image", "1 of 1")
	f.expect(t, 0, []string{"workflows", "--tenant=acme", "--json"}, `"hash":"`, `"title":"`)
	f.expect(t, 0, []string{"top", "--once"}, "hosts      1 online", "TENANT ", "RUNNING ")
}

// publish submits a picture.
func (f *fleet) publish(t *testing.T, args ...string) {
	t.Helper()
	if code, _, say := f.ask(t, picture, append([]string{"submit", "-"}, args...)...); code != 0 {
		t.Fatalf("submit %v: code %d, %s", args, code, say)
	}
}
