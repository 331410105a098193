package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// purgeEvents does what the age of events does after 72 h.
func (f *fleet) purgeEvents(t *testing.T, subject string) {
	t.Helper()
	nc, err := nats.Connect(f.url, nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	msg, err := nc.Request("$JS.API.STREAM.PURGE.COMFY_EVENTS", []byte(`{"filter":"`+subject+`"}`), testTimeout)
	if err != nil || !strings.Contains(string(msg.Data), `"success":true`) {
		t.Fatalf("purge %s: %v", subject, err)
	}
}

func TestADeadLetterTellsItsStoryWhenTheEventsAreGone(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "EmptyImage", Message: "boom"}}})
	_, hash := file(t, picture)
	if code, _, say := f.ask(t, picture, "submit", "-", "--id=bad", "--tenant=acme", "--max-attempts=1", "--wait"); code != 2 {
		t.Fatalf("a job that dies: code %d, %s", code, say)
	}
	f.purgeEvents(t, "comfy.events.jobs.acme.bad.>")

	f.expect(t, 1, []string{"status", "acme/bad"}, "tenant acme has no job bad; events are kept for a limited time, and `dispatcher dead show acme/bad` shows one that died longer ago")
	f.expect(t, 0, []string{"dead"}, "acme/bad", hash[:8], "attempts_exhausted", "execution_error", "sim", "boom")
	f.expect(t, 0, []string{"dead", "--kind=execution_error", "--hash=" + hash[:8], "--reason=attempts_exhausted"}, "acme/bad")
	f.expect(t, 0, []string{"dead", "--kind=out_of_memory"}, "no dead letter matches")
	f.expect(t, 0, []string{"dead", "--group"}, "JOBS", "attempts_exhausted", "execution_error", "acme", "sim", "boom")
	f.expect(t, 0, []string{"dead", "--group", "--json"}, `"count":1,"tenants":["acme"],"hosts":["sim"]`)
	f.expect(t, 0, []string{"dead", "--hash=0000000000000000"}, "no dead letter matches")
	f.expect(t, 0, []string{"dead", "show", "acme/bad"}, "job bad of tenant acme, priority 5, workflow "+hash[:8], "attempts_exhausted", "ATTEMPT", "EmptyImage", "boom")

	_, out, _ := f.ask(t, "", "dead", "list", "--json")
	var letter struct {
		Event, Job, Hash, Kind, Reason string
		Attempts                       []struct{ Host, Kind, Message string }
	}
	if err := json.Unmarshal([]byte(out), &letter); err != nil || letter.Event != "dead" || letter.Job != "bad" || letter.Hash != hash ||
		letter.Kind != "execution_error" || len(letter.Attempts) != 1 || letter.Attempts[0].Host != "sim" || !strings.Contains(letter.Attempts[0].Message, "boom") {
		t.Errorf("%v: %s", err, out)
	}
	f.expect(t, 0, []string{"dead", "requeue", "--tenant=acme", "--kind=execution_error"}, "acme/bad-r1", "1 job requeued")
}
