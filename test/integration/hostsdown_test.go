package integration_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAJobThatTakesTwoHostsDownIsDeadAndItsHashIsReported(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault comfysim.Fault
		kind  failure.Kind
		stay  int // hosts that are online afterwards
	}{
		"TheProcessDies": {comfysim.Fault{Kind: comfysim.FaultDie, Restart: 100 * time.Millisecond}, failure.HostLost, 3},
		"TheWorkerDies":  {comfysim.Fault{Kind: comfysim.FaultWedge}, failure.HostSick, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := names("a", "b", "c")
			for i := range hosts {
				hosts[i].Faults = []comfysim.Fault{tc.fault}
				hosts[i].Faults[0].Class = "ImageInvert"
			}
			f := start(t, setup{dispatchers: 2, hosts: hosts})
			end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, 1), MaxAttempts: 9}))
			if end.EventKind != job.Dead || end.Reason != string(failure.TakesHostsDown) || end.Hash != hashOf(t, inverted(1, 1)) {
				t.Errorf("ended %s: %s, hash %s", end.EventKind, end.Reason, end.Hash)
			}
			if len(end.Attempts) != 2 || end.Attempts[0].Host == end.Attempts[1].Host || end.Attempts[1].Kind != tc.kind {
				t.Errorf("the attempts are %+v, want %s on two hosts", end.Attempts, tc.kind)
			}
			if posted := len(f.sims["a"].Prompts()) + len(f.sims["b"].Prompts()) + len(f.sims["c"].Prompts()); posted != 2 {
				t.Errorf("%d hosts got the job, want 2", posted)
			}
			f.awaitPresence(tc.stay)
		})
	}
}
