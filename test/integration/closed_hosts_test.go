package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// hole is an agent with a stolen key of a host: it claims more slots than there are and the models of every job in memory,
// accepts all, keeps their leases alive and begins nothing.
type hole struct {
	f      *closed
	nc     *nats.Conn
	host   string
	serial atomic.Uint64
	kept   atomic.Int64 // offers that it has accepted
}

func (f *closed) hole(host string, s natsserver.AgentSettings) *hole {
	f.t.Helper()
	nc, _ := f.as(f.give(host, s), nil)
	h := &hole{f: f, nc: nc, host: host}
	stop := make(chan struct{})
	f.t.Cleanup(func() { close(stop) })
	_, err := nc.Subscribe("comfy.hosts."+host+".offer", func(offer *nats.Msg) {
		h.kept.Add(1)
		lease := offer.Header.Get("Comfy-Lease")
		go func() {
			for tick := time.Tick(time.Second); ; {
				select {
				case <-tick:
					_ = nc.Publish(lease, []byte("+WPI")) // the connection may be closed
				case <-stop:
					return
				}
			}
		}()
		_ = offer.Respond([]byte(`{"answer":"accepted","state":` + h.claim(true) + `}`))
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("the fleet reaches the host", func() bool {
		_, err := f.nc.RequestWithContext(f.context(), "comfy.hosts."+host+".offer", nil)
		return err == nil
	})
	h.kept.Store(0)
	f.eventually("the host is in the fleet", func() bool {
		answer, err := nc.RequestWithContext(f.context(), "fleet.api.$KV.COMFY_HOSTS."+host, []byte(h.claim(false)))
		return err == nil && !strings.Contains(string(answer.Data), "error")
	})
	go func() {
		for tick := time.Tick(time.Second); ; {
			select {
			case <-tick:
				_ = nc.Publish("fleet.api.$KV.COMFY_HOSTS."+host, []byte(h.claim(false)))
			case <-stop:
				return
			}
		}
	}()
	return h
}

func (h *hole) claim(brief bool) string {
	more := fmt.Sprintf(`"recent":[%q],`, hashOf(h.f.t, picture(0x102030)))
	if brief {
		more = `"brief":true,`
	}
	return fmt.Sprintf(`{"host":%q,"instance":"evil","serial":%d,"state":"online","slots":60000,"prefetch":60000,%s"time":%q}`,
		h.host, h.serial.Add(1), more, time.Now().UTC().Format(time.RFC3339Nano))
}

// Row 3, the black hole: it once kept 10 of 10 jobs. And the rest of what limits a stolen key of a host.
func TestAStolenKeyOfAHostKeepsNoJobAndNoOtherTenants(t *testing.T) {
	t.Parallel()
	f := startClosedWith(t, shortLeases(), names("gpu-1")...)
	acme, _ := f.tenant("acme")
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	evil := f.hole("gpu-2", natsserver.AgentSettings{Slots: 3})
	seen := func() *queue.HostInfo {
		var answer queue.HostsAnswer
		if err := f.q.Call(f.context(), "hosts", struct{}{}, &answer); err != nil {
			t.Fatal(err)
		}
		for i := range answer.Hosts {
			if answer.Hosts[i].Host == "gpu-2" {
				return &answer.Hosts[i]
			}
		}
		return nil
	}
	f.eventually("the dispatcher knows of gpu-2", func() bool { return seen() != nil })
	if h := seen(); h.Slots != 3 || h.Prefetch != 3 {
		t.Errorf("gpu-2 has %d slots and %d beyond", h.Slots, h.Prefetch)
	}
	const jobs = 8
	for n := range jobs {
		f.publish(acme, "acme", job.Spec{ID: job.ID(fmt.Sprint("job-", n)), Workflow: picture(0x102030), PreferHosts: []string{"gpu-2"}})
	}
	for range jobs {
		f.next(events, ".completed")
	}
	for n := range jobs {
		if chain := f.chainOf("acme", fmt.Sprint("job-", n)); chain != "queued started completed" {
			t.Errorf("job %d is %s", n, chain)
		}
	}
	if evil.kept.Load() == 0 {
		t.Error("gpu-2 was offered nothing, so nothing is shown")
	}

	bolts := f.hole("gpu-3", natsserver.AgentSettings{Tenants: []string{"bolt"}})
	f.publish(acme, "acme", job.Spec{ID: "only", Workflow: picture(0x102030), OnlyHosts: []string{"gpu-3"}})
	f.next(events, ".only.waiting")
	if n := bolts.kept.Load(); n != 0 {
		t.Errorf("bolt's host was offered %d jobs of acme's", n)
	}
	var why jetstream.WhyAnswer
	if err := f.q.Call(f.context(), "why", jetstream.WhyRequest{Tenant: "acme", Job: "only"}, &why); err != nil {
		t.Fatal(err)
	}
	for _, v := range why.Hosts {
		if v.Host == "gpu-3" && v.Code != "other_tenants" {
			t.Errorf("why says of gpu-3: %s", v.Text)
		}
	}
}

// Row 7: internal addresses, and the files of others beside ComfyUI.
func TestATenantReachesNothingInsideThroughAHost(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	bolt, _ := f.tenant("bolt")
	events := f.listen(bolt, "comfy.events.jobs.bolt.>")
	comfy := f.sims["gpu-1"].URL()
	texts := map[string]bool{}
	for n, address := range []string{comfy + "/view?filename=x.png", "http://127.0.0.1:1/x.png", "http://[::ffff:127.0.0.1]:1/", "http://169.254.169.254/latest/meta-data"} {
		spec := loads(job.Input{URL: address})
		spec.ID, spec.MaxAttempts = job.ID(fmt.Sprint("look-", n)), 1
		f.publish(bolt, "bolt", spec)
		var e jetstream.Event
		if err := json.Unmarshal(f.next(events, ".failed").Data, &e); err != nil {
			t.Fatal(err)
		}
		texts[string(e.Kind)+": "+e.Message] = true
	}
	if len(texts) != 1 || !texts["transient: input image of node 1: the input's url could not be fetched; the log of the host's agent says why"] {
		t.Errorf("the failures are told apart: %v", texts)
	}
	for n, file := range []string{"comfyherd/23c1b2d5-aa3c-8efb-9547-6f49092808b8/ComfyUI_00001_.png [output]", `.\\ComfyHerd//x/y.png`} {
		spec := job.Spec{ID: job.ID(fmt.Sprint("steal-", n)), Workflow: json.RawMessage(
			`{"1":{"class_type":"LoadImage","inputs":{"image":"` + file + `"}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`)}
		f.publish(bolt, "bolt", spec)
		var e jetstream.Event
		if err := json.Unmarshal(f.next(events, fmt.Sprintf(".steal-%d.dead", n)).Data, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != failure.InvalidWorkflow || !strings.Contains(e.Message, "names a file below comfyherd/") {
			t.Errorf("%s: %s: %s", file, e.Kind, e.Message)
		}
	}
	if ran := f.sims["gpu-1"].Runs(); len(ran) != 0 {
		t.Errorf("gpu-1 ran %v", ran)
	}
}

// Row 14: what a host puts into the buckets that are its own harms nobody else, and breaks no call.
func TestJunkOfAHostHarmsThatHostAlone(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	evil, _ := f.as(f.give("gpu-2", natsserver.AgentSettings{}), nil)
	acme, _ := f.tenant("acme")
	for _, body := range rubbish() {
		for _, bucket := range []string{"HOSTS", "CAPABILITIES", "CONDITIONS"} {
			if _, err := evil.RequestWithContext(f.context(), "fleet.api.$KV.COMFY_"+bucket+".gpu-2", body); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := evil.RequestWithContext(f.context(), "comfy.append.jobs.acme.next.completed", body); err != nil {
			t.Fatal(err)
		}
		if err := evil.Publish("comfy.hosts.gpu-2.state", body); err != nil {
			t.Fatal(err)
		}
	}
	f.runs(acme, "acme", "next")
	if chain := f.chainOf("acme", "next"); chain != "queued started completed" {
		t.Errorf("the chain is %s", chain)
	}
	operator, _ := f.as(f.folder.Operator())
	for _, call := range []string{"hosts", "blocks", "queue", "tenants", "affinity", "dead"} {
		answer, err := operator.RequestWithContext(f.context(), "comfy.api."+call, []byte("{}"))
		if err != nil || answer.Header.Get("Nats-Service-Error") != "" {
			t.Errorf("%s: %v %v", call, answer, err)
		}
	}
}
