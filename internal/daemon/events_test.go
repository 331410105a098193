package daemon_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAnEventReadsAsAPartOfASentence(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	soon := now.Add(30 * time.Second)
	for want, e := range map[string]job.Event{
		"queued": {EventKind: job.Queued},
		"waiting: every host that can run it is blocked, for 30s":                {EventKind: job.Waiting, Reason: "all_blocked", Until: &soon},
		"started on a, attempt 2":                                                {EventKind: job.Started, Host: "a", Attempt: 2},
		"failed on a: execution_error: boom":                                     {EventKind: job.Failed, Host: "a", Kind: failure.ExecutionError, Message: "boom\nTraceback"},
		"retrying, in 30s, avoiding a":                                           {EventKind: job.Retrying, NotBefore: &soon, AvoidedHosts: []string{"a"}},
		"completed on b, ran 1.5s, 1 file, seed of node 3: 18446744073709551615": {EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: make([]job.Output, 1), Seeds: map[string]uint64{"3": 18446744073709551615}},
		"dead: invalid_job: the message is empty":                                {EventKind: job.Dead, Reason: "invalid_job", Message: "the message is empty"},
		"cancelled by ada":                                                       {EventKind: job.Cancelled, By: "ada"},
	} {
		if got := daemon.EventText(&e, now); got != want {
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
	for want, e := range map[string]job.Event{
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
		if got := daemon.EventText(&e, now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestAnEndSaysWhatEachHostSaidAndWhatTheJobMade(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	file, text := job.Output{Node: "9", Media: "images", Filename: "a.png"}, job.Output{Node: "4", Media: "text", Text: "a cat\non a mat ", Size: 16}
	for want, e := range map[string]job.Event{
		"dead: not_retryable: every host refuses it; value not in list: beta57 (a); 413 (b)": {
			EventKind: job.Dead, Reason: "not_retryable", Message: "every host refuses it", Hosts: map[string]string{"a": "value not in list: beta57", "b": "413"},
		},
		"failed on a: host_sick (disk full): [Errno 28]": {EventKind: job.Failed, Host: "a", Kind: failure.HostSick, Cause: failure.DiskFull, Message: "[Errno 28]"},
		`completed on b, ran 1.5s, 1 file, text of node 4: "a cat\non a mat"`: {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: []job.Output{text, file},
		},
		"completed on b, ran 1.5s, 0 files, text of node 4: 64 KiB": {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), Outputs: []job.Output{{Node: "4", Media: "text", Object: "o", Size: 64 << 10}},
		},
		"completed on b, ran 1.5s, 0 files, but no output node left anything: no file, no picture and no text": {
			EventKind: job.Completed, Host: "b", RanFor: job.Duration(1500 * time.Millisecond), OutputsMissing: true,
		},
	} {
		if got := daemon.EventText(&e, now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
