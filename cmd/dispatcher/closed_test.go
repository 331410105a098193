package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// startClosed is a fleet that lets in only those who have credentials out of the folder.
func startClosed(t *testing.T, host comfysim.Config) (f *fleet, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "herd")
	for _, args := range [][]string{{"init", folder}, {"tenant", folder, "acme"}, {"tenant", folder, "bolt"}, {"agent", folder, "gpu-1"}, {"operator", folder}, {"watcher", folder}} {
		if code, _, say := keys(t, args...); code != 0 {
			t.Fatal(say)
		}
	}
	f = begin(t, host, "--access="+folder)
	f.creds = filepath.Join(folder, "creds", "operator.creds")
	f.until(t, []string{"hosts"}, "no host is online")
	f.serve(t, daemon.NATS{Creds: filepath.Join(folder, "creds", "agent-gpu-1.creds")},
		queue.Config{APIPrefix: natsserver.JetStreamPrefix, NoConsumers: true}, "gpu-1")
	f.until(t, []string{"hosts"}, "gpu-1 ", "online")
	return f, folder
}

// The whole of what a tenant does, with one file of credentials.
func TestATenantsCredentialsAreEnoughForItsJobs(t *testing.T) {
	t.Parallel()
	f, folder := startClosed(t, comfysim.Config{})
	operator, acme, bolt, watcher, agent := *f, *f, *f, *f, *f
	watcher.creds = filepath.Join(folder, "creds", "watcher.creds")
	agent.creds = filepath.Join(folder, "creds", "agent-gpu-1.creds")
	acme.creds = filepath.Join(folder, "creds", "tenant-acme.creds")
	bolt.creds = filepath.Join(folder, "creds", "tenant-bolt.creds")

	first := acme.submitted(t, picture, "--id=first", "--out="+t.TempDir())
	load := `{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"9":{"class_type":"SaveImage","inputs":{"images":["10",0],"filename_prefix":"ComfyUI"}}}`
	second := acme.submitted(t, load, "--id=second", "--input=10.image="+first, "--out="+t.TempDir())
	if firstColour(t, first) != red || firstColour(t, second) != red {
		t.Errorf("the pictures are %v and %v", firstColour(t, first), firstColour(t, second))
	}

	acme.expect(t, 0, []string{"status", "first"}, "job first of tenant acme, priority 5", "completed", "gpu-1")
	acme.expect(t, 0, []string{"why", "first"}, "job first, completed")
	operator.expect(t, 0, []string{"why", "acme/first"}, "job first, completed")
	acme.expect(t, 0, []string{"jobs"}, "JOB", "first", "second", "completed", "gpu-1")
	acme.fetchesOnce(t, "second", second)
	acme.expect(t, 0, []string{"wait", "first", "second"}, "second: completed on gpu-1", "2 completed, 0 dead, 0 cancelled, 0 not ended")
	acme.expect(t, 1, []string{"fetch", "nobody", "--out=" + t.TempDir()}, "tenant acme has no job nobody")
	acme.ownEvents(t, "--all")
	acme.ownEvents(t, "--since=1h")
	watcher.ownEvents(t, "--all", "--tenant=acme")

	for _, id := range []string{"late-1", "late-2", "late-3"} {
		if code, out, say := acme.ask(t, picture, "submit", "-", "--id="+id, "--in=1h"); code != 0 || out != id+"\n" {
			t.Fatalf("submit: code %d, %q, %s", code, out, say)
		}
	}
	acme.until(t, []string{"jobs", "late-", "--state=waiting"}, "late-1", "late-2", "late-3", "not due yet")
	acme.expect(t, 0, []string{"queue"}, "acme", "5", "3")
	acme.expect(t, 0, []string{"cancel", "late-1"}, "acme/late-1 cancelled")
	acme.expect(t, 3, []string{"wait", "late-1"}, "late-1: cancelled by ")
	acme.expect(t, 1, []string{"fetch", "late-1"}, "job acme/late-1 has no files: it is cancelled; `dispatcher status acme/late-1` says why")
	acme.expect(t, 1, []string{"cancel", "--all"}, "cancel all waiting jobs of tenant acme: standard input is no terminal to ask on; add --yes")
	acme.expect(t, 0, []string{"cancel", "--lane=4", "--yes"}, "0 jobs cancelled")
	acme.expect(t, 0, []string{"cancel", "--lane=5", "--yes"}, "2 jobs cancelled")

	f.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Class: "EmptyImage", Message: "boom"})
	if code, _, say := acme.ask(t, picture, "submit", "-", "--id=bad", "--max-attempts=1", "--wait"); code != 2 {
		t.Fatalf("a job that dies: code %d, %s", code, say)
	}
	f.sim.ClearFaults()
	operator.expect(t, 0, []string{"blocks", "clear", "--all"}, "1 block lifted")
	acme.expect(t, 0, []string{"dead"}, "acme/bad", "attempts_exhausted", "boom")
	acme.expect(t, 0, []string{"dead", "show", "bad"}, "job bad of tenant acme, priority 5", "ATTEMPT", "boom")
	acme.expect(t, 1, []string{"dead", "show", "bad", "--body"}, "use the credentials of an operator")
	acme.expect(t, 0, []string{"dead", "requeue", "bad"}, "acme/bad-r1\n", "1 job requeued")
	acme.expect(t, 0, []string{"dead", "requeue", "--all"}, "1 letter requeued before and left out")
	acme.expect(t, 0, []string{"wait", "bad-r1"}, "bad-r1: completed on gpu-1")
	operator.expect(t, 0, []string{"dead", "purge", "--all", "--yes"}, "1 dead letter deleted")
	operator.expect(t, 0, []string{"hosts", "drain", "gpu-1"}, "gpu-1 is draining")
	operator.expect(t, 0, []string{"hosts", "resume", "gpu-1"}, "gpu-1 is taking jobs")

	for want, args := range map[string][]string{
		"NATS_CREDS has the credentials of tenant bolt, which do not work for tenant acme": {"status", "acme/first"},
		"which do not work for tenant acme; use those of acme, or leave the tenant out":    {"jobs", "--tenant=acme"},
		"tenant bolt has no job first":              {"status", "first"},
		"no job matches":                            {"jobs"},
		"no dead letter matches":                    {"dead"},
		"no job waits and none runs":                {"queue"},
		"this needs the credentials of an operator": {"hosts"},
		"those of tenant bolt are for its own jobs": {"dead", "purge", "--all", "--yes"},
	} {
		code := 1
		if strings.HasPrefix(want, "no") {
			code = 0
		}
		bolt.expect(t, code, args, want)
	}
	for _, args := range [][]string{{"jobs"}, {"status", "acme/first"}, {"hosts"}} {
		watcher.expect(t, 1, args, "these are the credentials of a watcher, which only work for `dispatcher watch`")
		agent.expect(t, 1, args, "these are the credentials of agent-gpu-1, which only work for its agent")
	}
	operator.expect(t, 0, []string{"status", "acme/first"}, "job first of tenant acme", "completed")
	operator.expect(t, 0, []string{"jobs", "--tenant=acme", "--state=completed", "--limit=1"}, "bad-r1", "there are more; --limit shows them")
}

// submitted submits a workflow with --out and gives the path of its picture.
func (f *fleet) submitted(t *testing.T, workflow string, args ...string) string {
	t.Helper()
	code, out, say := f.ask(t, workflow, append([]string{"submit", "-"}, args...)...)
	if code != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("submit %v: code %d, %q, %s", args, code, out, say)
	}
	return strings.TrimSpace(out)
}

// fetchesOnce fetches the file of a job twice, and wants it to be written once.
func (f *fleet) fetchesOnce(t *testing.T, id, like string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, id, filepath.Base(like))
	var before os.FileInfo
	for n := range 2 {
		if code, out, say := f.ask(t, "", "fetch", id, "--out="+dir); code != 0 || out != path+"\n" || read(t, path) != read(t, like) {
			t.Fatalf("fetch: code %d, %q, %s", code, out, say)
		}
		info, err := os.Stat(path)
		if err != nil || n > 0 && !os.SameFile(info, before) {
			t.Errorf("the file was written again: %v", err)
		}
		before = info
	}
}

// ownEvents watches from a moment before the first event on: two jobs of three events each.
func (f *fleet) ownEvents(t *testing.T, from ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	said, say := io.Pipe()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if code := main.Run(ctx, append([]string{"watch"}, append(from, "--json", "--nats-url="+f.url, "--nats-creds="+f.creds)...), nil, say, io.Discard); code != 0 {
			t.Errorf("watch ended with %d", code)
		}
		_ = say.Close() // a pipe's Close never fails
	})
	var events []string
	for lines := bufio.NewScanner(said); lines.Scan(); {
		var e struct{ Event, Job, Tenant string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Tenant != "acme" {
			t.Errorf("%s: %v", lines.Text(), err)
		}
		if events = append(events, e.Job+" "+e.Event); len(events) == 6 {
			cancel()
			break
		}
	}
	_ = said.Close() // what comes now has no reader
	want := "first queued, first started, first completed, second queued, second started, second completed"
	if got := strings.Join(events, ", "); got != want {
		t.Errorf("%s: got %s", from, got)
	}
}
