package main_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/jetstream"
)

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
