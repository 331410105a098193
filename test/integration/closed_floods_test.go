package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/access"
	"github.com/comfyherd/comfyherd/internal/job"
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
	evil, _ := f.as(f.folder.Agent("gpu-2", access.AgentSettings{}))
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
