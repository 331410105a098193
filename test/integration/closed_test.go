package integration_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// envelope is a job as a tenant's program writes it.
func envelope(t *testing.T, spec job.Spec) []byte {
	t.Helper()
	body, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// publish stores a job as a program without our package does, and gives its lane's answer.
func (f *closed) publish(nc *nats.Conn, tenant string, spec job.Spec) (stream string) {
	f.t.Helper()
	msg := nats.NewMsg("comfy.jobs." + tenant + ".5")
	msg.Header.Set("Comfy-Job-Id", string(spec.ID))
	msg.Data = envelope(f.t, spec)
	answer, err := nc.RequestMsgWithContext(f.context(), msg)
	if err != nil {
		f.t.Fatal(err)
	}
	var ack struct{ Stream string }
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		f.t.Fatalf("%s: %v", answer.Data, err)
	}
	return ack.Stream
}

// listen subscribes, and returns when the server has the subscription.
func (f *closed) listen(nc *nats.Conn, subject string) *nats.Subscription {
	f.t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := nc.FlushTimeout(testTimeout); err != nil {
		f.t.Fatal(err)
	}
	return sub
}

// next waits for a message whose subject ends so.
func (f *closed) next(sub *nats.Subscription, suffix string) *nats.Msg {
	f.t.Helper()
	for {
		msg, err := sub.NextMsgWithContext(f.context())
		if err != nil {
			f.t.Fatalf("wait for %s: %v", suffix, err)
		}
		if strings.HasSuffix(msg.Subject, suffix) {
			return msg
		}
	}
}

func TestTwoTenantsAndTwoHostsWorkInAClosedFleet(t *testing.T) {
	t.Parallel()
	models := map[string][]string{"checkpoints": {"a.safetensors"}}
	f := startClosed(t, comfysim.Config{Name: "gpu-1", Models: models}, comfysim.Config{Name: "gpu-2", Models: models})
	for _, tenant := range []string{"acme", "bolt"} {
		nc, _ := f.tenant(tenant)
		events, live := f.listen(nc, "comfy.events.jobs."+tenant+".>"), f.listen(nc, "comfy.live.jobs."+tenant+".>")
		if stream := f.publish(nc, tenant, job.Spec{ID: "one", Workflow: paint("a.safetensors", "x", 1)}); stream != "COMFY_JOBS" {
			t.Errorf("the ack names stream %q", stream)
		}
		f.next(events, ".one.started")
		f.next(live, ".one.progress")
		var ended job.Event
		if err := json.Unmarshal(f.next(events, ".one.completed").Data, &ended); err != nil {
			t.Fatal(err)
		}
		if len(ended.Outputs) == 0 {
			t.Fatal("no outputs")
		}
		body, _, err := f.q.OpenOutput(f.context(), ended.Outputs[0].Object)
		if err != nil {
			t.Fatal(err)
		}
		if picture, err := io.ReadAll(body); err != nil || len(picture) == 0 {
			t.Errorf("%d bytes, %v", len(picture), err)
		}
	}
	f.follows("acme")
}

func TestAddedTenantsAndHostsAreKnownAndRevokedOnesCutOffWhileNATSRuns(t *testing.T) {
	t.Parallel()
	f := startClosed(t)
	acme, _ := f.tenant("acme")
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	f.publish(acme, "acme", job.Spec{ID: "early", Workflow: picture(0x112233)})
	sim, err := comfysim.Start(comfysim.Config{Name: "late"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["late"] = sim
	stop, _ := f.host("late", natsserver.AgentSettings{})
	f.next(events, ".early.completed")
	stop()

	host, _ := f.as(f.folder.Agent("late", natsserver.AgentSettings{}))
	operator, _ := f.as(f.folder.Operator())
	for name, nc := range map[string]*nats.Conn{"tenant-acme": acme, "agent-late": host, "operator": operator} {
		creds := filepath.Join(f.folder.Dir(), "creds", name+".creds")
		stolen, err := os.ReadFile(creds)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.folder.Revoke(name); err != nil {
			t.Fatal(err)
		}
		f.eventually(name+" is cut off", func() bool { return !nc.IsConnected() })
		copied := filepath.Join(t.TempDir(), "stolen.creds")
		if err := os.WriteFile(copied, stolen, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := nats.Connect(f.url, nats.UserCredentials(copied), nats.Timeout(10*time.Second)); err == nil {
			again.Close()
			t.Errorf("%s is let in again", name)
		}
	}
	fresh, _ := f.tenant("acme")
	if stream := f.publish(fresh, "acme", job.Spec{ID: "again", Workflow: picture(0x112233)}); stream != "COMFY_JOBS" {
		t.Errorf("the new credentials of acme got %q", stream)
	}
	if _, err := f.q.Hosts(f.context()); err != nil {
		t.Errorf("the dispatcher is cut off too: %v", err)
	}
}
