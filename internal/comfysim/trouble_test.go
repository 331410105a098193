package comfysim_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestALostDeviceFailsEveryPromptUntilTheProcessIsAnother(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultPoison, Times: 1}}})
	for i := range 2 {
		h.submit(sleepy(i, 0, 1, "none", "x"), "me")
	}
	h.ended(2)
	h.Kill()
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	h.do("GET", "/queue", "") // over a new connection
	h.submit(sleepy(3, 0, 1, "none", "x"), "me")
	runs := h.ended(3)
	for i, want := range []comfysim.Outcome{comfysim.Failed, comfysim.Failed, comfysim.Succeeded} {
		if runs[i].Outcome != want {
			t.Errorf("run %d: %s, want %s", i, runs[i].Outcome, want)
		}
	}
}

func TestAFullDiskStopsSavesAndUploadsUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	if code, _ := h.do("POST", "/sim/fill", ""); code != http.StatusOK {
		t.Errorf("HTTP %d", code)
	}
	h.submit(short(1, "a"), "me")
	if runs := h.ended(1); runs[0].Outcome != comfysim.Failed {
		t.Errorf("a save on a full disk ends as %s", runs[0].Outcome)
	}
	h.MakeRoom()
	h.submit(short(2, "a"), "me")
	if runs := h.ended(2); runs[1].Outcome != comfysim.Succeeded {
		t.Errorf("with room it ends as %s", runs[1].Outcome)
	}
}

func TestAWorkerThatExitsLeavesNoTraceInTheLog(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultExitWorker}}})
	h.submit(sleepy(1, 0, 1, "none", "x"), "me")
	h.ended(1)
	if _, log := h.do("GET", "/internal/logs", ""); h.Working() || strings.Contains(log, "prompt_worker") {
		t.Errorf("working %v, log %s", h.Working(), log)
	}
}
