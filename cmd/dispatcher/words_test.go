package main_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 0: "0ms", 12 * time.Millisecond: "12ms", 3450 * time.Millisecond: "3.5s", 12900 * time.Millisecond: "12s",
		125 * time.Second: "2m05s", 3*time.Hour + 10*time.Minute: "3h10m", 52 * time.Hour: "2d4h",
	} {
		if got := main.Span(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestSizesReadAsPeopleSayThem(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 24 << 30: "24.0 GiB", 3 << 19: "1.5 MiB"} {
		if got := main.BytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestForeignTextCannotMoveTheCursor(t *testing.T) {
	t.Parallel()
	if got := main.Clean("a\x1b[2Jb\nc\u202ed"); got != "a [2Jb c d" {
		t.Errorf("got %q", got)
	}
}

func TestOutputsKeepTheirNamesAndStayInTheirFolder(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, step := range []struct{ node, file, want string }{
		{"9", "ComfyUI_00001_.png", "ComfyUI_00001_.png"},
		{"12", "ComfyUI_00001_.png", "12-ComfyUI_00001_.png"},
		{"12", "ComfyUI_00001_.png", "_12-ComfyUI_00001_.png"},
		{"9", "../../etc/passwd", "passwd"},
		{"9", "..", "file"},
		{"../9", "passwd", "9-passwd"},
	} {
		if got := main.FileName(&job.Output{Node: step.node, Filename: step.file}, taken); got != step.want {
			t.Errorf("%s of node %s: got %s, want %s", step.file, step.node, got, step.want)
		}
	}
}

func TestATextIsAFileOfItsNode(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, want := range []string{"4.txt", "4-4.txt"} {
		if got := main.FileName(&job.Output{Node: "4", Media: "text"}, taken); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTheDataFolderIsTheUsers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the folder is another one on this system")
	}
	home := func() (string, error) { return "/home/ada", nil }
	none := func(string) string { return "" }
	xdg := func(name string) string { return map[string]string{"XDG_DATA_HOME": "/data"}[name] }
	if got, err := main.DataDir(none, home); err != nil || got != filepath.FromSlash("/home/ada/.local/share/comfyherd") {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := main.DataDir(xdg, home); err != nil || got != filepath.FromSlash("/data/comfyherd") {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := main.DataDir(none, func() (string, error) { return "", errors.New("no home") }); err == nil {
		t.Error("a folder was found without a home")
	}
}

func TestMomentsAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	for _, text := range []string{"2026-12-01T08:00:00Z", "2026-12-01T09:00:00+01:00"} {
		if got, err := main.Moment(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	local := time.Date(2026, 12, 1, 8, 0, 0, 0, time.Local)
	for _, text := range []string{"2026-12-01T08:00", "2026-12-01 08:00:00"} {
		if got, err := main.Moment(text); err != nil || !got.Equal(local) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if _, err := main.Moment("tomorrow"); err == nil {
		t.Error("tomorrow was read as a moment")
	}
}

func TestAnEventReadsAsAPartOfASentence(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	soon := now.Add(30 * time.Second)
	for want, e := range map[string]jetstream.Event{
		"queued": {EventKind: job.Queued},
		"waiting: every host that can run it is blocked, for 30s":                {EventKind: job.Waiting, Reason: "all_blocked", Until: &soon},
		"started on a, attempt 2":                                                {EventKind: job.Started, Host: "a", Attempt: 2},
		"failed on a: execution_error: boom":                                     {EventKind: job.Failed, Host: "a", Kind: failure.ExecutionError, Message: "boom\nTraceback"},
		"retrying, in 30s, avoiding a":                                           {EventKind: job.Retrying, NotBefore: &soon, AvoidedHosts: []string{"a"}},
		"completed on b, ran 1.5s, 1 file, seed of node 3: 18446744073709551615": {EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: make([]job.Output, 1), Seeds: map[string]uint64{"3": 18446744073709551615}},
		"dead: invalid_job: the message is empty":                                {EventKind: job.Dead, Reason: "invalid_job", Message: "the message is empty"},
		"cancelled by ada":                                                       {EventKind: job.Cancelled, By: "ada"},
	} {
		if got := main.Happening(&e, now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestAWaitingJobSaysWhatWhichHostLacks(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	hosts := map[string]string{"a": "missing node X", "b": "missing node X", "c": "unhealthy: disk full", "d": "draining"}
	many := map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}
	crowd := map[string]string{"a": "x", "b": "x", "c": "x", "d": "x", "e": "x", "f": "x"}
	for want, e := range map[string]jetstream.Event{
		"waiting: no host can run it now: missing node X (a, b); unhealthy: disk full (c); draining (d)":        {Reason: "none_capable", Hosts: hosts},
		"waiting: its wishes or rules exclude every online host that can run it: draining (d)":                  {Reason: "excluded", Hosts: map[string]string{"d": "draining"}},
		"waiting: no host can run it now: 1 (a); 2 (b); 3 (c); 4 (d); 2 other reasons, see `dispatcher status`": {Reason: "none_capable", Hosts: many},
		"waiting: no host can run it now: x (a, b, c, d and 2 more)":                                            {Reason: "none_capable", Hosts: crowd},
		"waiting: no host can run it now":                           {Reason: "none_capable"},
		"waiting: every host that can run it is blocked":            {Reason: "all_blocked", Hosts: hosts},
		"waiting: two hosts are out because of jobs of tenant acme": {Reason: "hosts_down", Message: "two hosts are out because of jobs of tenant acme"},
		"waiting: two hosts are out because of its tenant's jobs":   {Reason: "hosts_down"},
		"waiting: too hot":               {Reason: "of_a_newer_dispatcher", Message: "too hot"},
		"waiting: of a newer dispatcher": {Reason: "of_a_newer_dispatcher"},
	} {
		e.EventKind = job.Waiting
		if got := main.Happening(&e, now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestAnEndSaysWhatEachHostSaidAndWhatTheJobMade(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	file, text := job.Output{Node: "9", Media: "images", Filename: "a.png"}, job.Output{Node: "4", Media: "text", Text: "a cat\non a mat ", Size: 16}
	for want, e := range map[string]jetstream.Event{
		"dead: not_retryable: every host refuses it; value not in list: beta57 (a); 413 (b)": {
			EventKind: job.Dead, Reason: "not_retryable", Message: "every host refuses it", Hosts: map[string]string{"a": "value not in list: beta57", "b": "413"},
		},
		"failed on a: host_sick (disk full): [Errno 28]": {EventKind: job.Failed, Host: "a", Kind: failure.HostSick, Cause: failure.DiskFull, Message: "[Errno 28]"},
		`completed on b, ran 1.5s, 1 file, text of node 4: "a cat\non a mat"`: {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: []job.Output{text, file},
		},
		"completed on b, ran 1.5s, 0 files, text of node 4: 64.0 KiB": {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: []job.Output{{Node: "4", Media: "text", Object: "o", Size: 64 << 10}},
		},
		"completed on b, ran 1.5s, 0 files, but no output node left anything: no file, no picture and no text": {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), OutputsMissing: true,
		},
	} {
		if got := main.Happening(&e, now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestProgressCountsWholeNodesAndTheRunningOneInPart(t *testing.T) {
	t.Parallel()
	for want, p := range map[float64]jetstream.Progress{
		0: {}, 0.5: {NodesDone: 1, NodesTotal: 4, Value: 4, Max: 4}, 0.25: {Value: 5, Max: 20}, 1: {NodesDone: 4, NodesTotal: 4, Value: 9, Max: 4},
	} {
		if got := main.Share(p); got != want {
			t.Errorf("%+v: %g, want %g", p, got, want)
		}
	}
}

func TestWatchShowsWhoWhereAndWhy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	hash := "3f2a9c1d000000000000000000000000000000000000000000000000000000aa"
	for name, tc := range map[string]struct{ subject, body, who, host, why string }{
		"Job":      {"comfy.events.jobs.acme.j1.started", `{"host":"a","attempt":1}`, "acme/j1", "a", ""},
		"Default":  {"comfy.events.jobs.default.j1.dead", `{"reason":"expired","message":"too late"}`, "j1", "", "expired: too late"},
		"Queued":   {"comfy.events.jobs.default.j1.queued", `{"hash":"` + hash + `","position":2}`, "j1", "", "place 2, workflow 3f2a9c1d"},
		"Blocked":  {"comfy.events.blocks.a." + hash + ".blocked", `{"kind":"out_of_memory","message":"no room","tenants":["*"],"until":"2026-12-01T08:00:00Z"}`, "workflow 3f2a9c1d", "a", "until " + now.Local().Format("15:04:05") + ": out of memory: no room"},
		"Verbatim": {"comfy.events.blocks.a." + hash + ".blocked", `{"kind":"execution_error","message":"no ckpt_name","tenants":["a_b"],"until":"2026-12-01T08:00:00Z"}`, "workflow 3f2a9c1d", "a", "until " + now.Local().Format("15:04:05") + ": execution error: no ckpt_name (for a_b)"},
		"Lifted":   {"comfy.events.blocks.a." + hash + ".unblocked", `{"cause":"capability_changed"}`, "workflow 3f2a9c1d", "a", "capability changed"},
		"Host":     {"comfy.events.hosts.a.offline", `{"reason":"silence"}`, "host", "a", "silence"},
		"Junk":     {"comfy.events.jobs.acme.j1.started", `junk`, "acme/j1", "", ""},
		"Act":      {"comfy.events.operator.cancel", `{"call":"cancel","by":"tenant acme: ann","tenant":"acme","request":{"tenant":"acme","lane":5,"running":true},"count":3}`, "tenant acme: ann", "", "3 changed: lane 5, running, tenant acme"},
		"Begins":   {"comfy.events.operator.purge", `{"call":"purge","by":"ann","request":{"all":true},"begins":true,"count":0}`, "ann", "", "begins: all"},
		"Partly":   {"comfy.events.operator.requeue", `{"call":"requeue","by":"a\u001bb","request":{"all":true},"count":1,"error":"the disk\nis full"}`, "a\x1bb", "", "1 changed: all; ended early: the disk"},
		"OddAct":   {"comfy.events.operator.cancel", `junk`, "operator", "", ""},
		"Foreign":  {"comfy.events.other", ``, "comfy.events.other", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			who, host, why := main.Line(tc.subject, tc.body, now)
			if who != tc.who || host != tc.host || why != tc.why {
				t.Errorf("got %q %q %q, want %q %q %q", who, host, why, tc.who, tc.host, tc.why)
			}
		})
	}
}

func TestWatchedJSONHasSubjectAndEventInFront(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"host": "a", "size": 18446744073709551615}`: `{"subject":"s.x","event":"x","host":"a","size":18446744073709551615}` + "\n",
		`{}`: `{"subject":"s.x","event":"x"}` + "\n", `junk`: `{"subject":"s.x","event":"x"}` + "\n", `[1]`: `{"subject":"s.x","event":"x"}` + "\n",
	} {
		if got := main.JSONLine("s.x", body); got != want {
			t.Errorf("%s: got %s", body, got)
		}
	}
}

func TestTheExitCodeSaysHowAWaitEnded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ completed, dead, cancelled, open, want int }{
		"AllCompleted": {completed: 3, want: 0},
		"Died":         {completed: 1, dead: 1, cancelled: 1, want: 2},
		"Cancelled":    {completed: 1, cancelled: 1, want: 3},
		"TimedOut":     {dead: 1, open: 1, want: 4},
	} {
		if got := main.Verdict(tc.completed, tc.dead, tc.cancelled, tc.open); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}
