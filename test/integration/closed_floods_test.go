package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Row 8: a window for duplicates would be common to all tenants. There is none, and an id that came as Nats-Msg-Id stays
// the job's, which runs once.
func TestAFloodOfForeignIDsSwallowsNoJob(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	bolt, _ := f.tenant("bolt")
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	const jobs = 20
	for i := range jobs {
		id := fmt.Sprint("order-", i)
		for range 3 {
			f.order(bolt, "bolt", id, []byte("{}"))
		}
		f.order(acme, "acme", id, envelope(t, job.Spec{Workflow: picture(0x010203 + i)}))
		f.order(acme, "acme", id, envelope(t, job.Spec{Workflow: picture(0x010203 + i)})) // again, as after a lost ack
	}
	for range jobs {
		f.next(events, ".completed")
	}
	for i := range jobs {
		if got := f.chainOf("acme", fmt.Sprint("order-", i)); got != "queued started completed" {
			t.Errorf("order-%d: %s", i, got)
		}
	}
}

// order publishes a job whose id is its Nats-Msg-Id, and waits for the ack.
func (f *closed) order(nc *nats.Conn, tenant, id string, body []byte) {
	f.t.Helper()
	msg := nats.NewMsg("comfy.jobs." + tenant + ".5")
	msg.Header.Set("Nats-Msg-Id", id)
	msg.Data = body
	answer, err := nc.RequestMsgWithContext(f.context(), msg)
	if err != nil || strings.Contains(string(answer.Data), "duplicate") || strings.Contains(string(answer.Data), "error") {
		f.t.Fatalf("%s's %s: %v, %v", tenant, id, answer, err)
	}
}

// Row 3, a roll-up: on its own key, or in the store of outputs, it would remove what everybody has there.
func TestAHostsKeyEmptiesNoBucket(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	f.runs(acme, "acme", "before")
	evil, _ := f.as(f.folder.Agent("gpu-2", natsserver.AgentSettings{}))
	for _, subject := range []string{
		"fleet.api.$KV.COMFY_HOSTS.gpu-2", "fleet.api.$KV.COMFY_CAPABILITIES.gpu-2", "fleet.api.$KV.COMFY_CONDITIONS.gpu-2", "$O.COMFY_OUTPUTS.C.x", "$O.COMFY_OUTPUTS.M.x",
	} {
		msg := nats.NewMsg(subject)
		msg.Header.Set("Nats-Rollup", "all")
		answer, err := evil.RequestMsgWithContext(f.context(), msg)
		if err != nil || !strings.Contains(string(answer.Data), "rollup not permitted") {
			t.Errorf("%s: %v, %v", subject, answer, err)
		}
	}
	capability, err := f.q.Capability(f.context(), "gpu-1")
	if _, there, hostErr := f.q.Host(f.context(), "gpu-1"); !there || hostErr != nil || len(capability) == 0 || err != nil {
		t.Errorf("of gpu-1 are left: presence %v, %v, capability of %d bytes, %v", there, hostErr, len(capability), err)
	}
	if n := f.total("OBJ_COMFY_OUTPUTS", ">"); n == 0 {
		t.Error("acme's picture is gone")
	}
	f.runs(acme, "acme", "after")
}

// Row 5: bodies that are no jobs would fill the disk, each for thirty days. They are kept as their beginnings, and NATS refuses
// those that are larger than any job.
func TestAFloodOfInvalidBodiesFillsNothing(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	bolt, _ := f.as(f.folder.Tenant("bolt", natsserver.TenantSettings{MaxPayload: 8 << 20}))
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	send := func(size int) string {
		answer, err := bolt.RequestWithContext(f.context(), "comfy.jobs.bolt.5", bytes.Repeat([]byte("x"), size))
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Data)
	}
	for range 6 {
		if answer := send(8<<20 - 8<<10); !strings.Contains(answer, "message size exceeds maximum allowed") {
			t.Fatalf("a body of 8 MiB: %s", answer)
		}
	}
	const size = 1 << 20
	for i := range 66 {
		if i%10 == 0 {
			f.publish(acme, "acme", job.Spec{ID: job.ID(fmt.Sprint("meanwhile-", i)), Workflow: picture(0x010203 + i)})
		}
		if answer := send(size); strings.Contains(answer, "error") {
			t.Fatalf("body %d: %s", i, answer)
		}
	}
	for range 7 {
		f.next(events, ".completed")
	}
	f.eventually("every body is refused", func() bool { return f.total("COMFY_EVENTS", "comfy.events.jobs.bolt.*.dead") == 66 })
	f.runs(acme, "acme", "after")
	letters := 0
	err := f.q.DeadLetters(f.context(), "bolt", time.Time{}, func(l queue.DeadLetter) bool {
		letters++
		if len(l.Body) != 4096 || l.Header.Get("Comfy-Truncated") != fmt.Sprint(size) {
			t.Errorf("a letter has %d bytes of %s", len(l.Body), l.Header.Get("Comfy-Truncated"))
		}
		return true
	})
	if err != nil || letters != 66 {
		t.Errorf("%d letters, %v", letters, err)
	}
	var dead struct {
		State struct {
			Bytes int `json:"bytes"`
		} `json:"state"`
	}
	info, err := f.nc.RequestWithContext(f.context(), "$JS.API.STREAM.INFO.COMFY_DEAD", nil)
	if err == nil {
		err = json.Unmarshal(info.Data, &dead)
	}
	if held := dead.State.Bytes; err != nil || held == 0 || held > 66*(4<<10+1<<10) { // with headers
		t.Errorf("dead letters hold %d bytes, %v", held, err)
	}
}
