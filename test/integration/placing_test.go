package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAPromptThatIsOverBeforeItsPostWasAnsweredCompletes(t *testing.T) {
	t.Parallel()
	slow := comfysim.Fault{Kind: comfysim.FaultSlowAccept, Delay: 200 * time.Millisecond}
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{slow}}}})
	// A preview has no name of its own, so that ComfyUI answers the second one whole from its cache.
	preview := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 0x0a0b0c),
		"9": node("PreviewImage", "images", link("1")),
	})
	for _, cached := range []int{0, 2} {
		end := f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", preview)))
		f.wantPicture(end, rgb(0x0a0b0c))
		if len(end.CachedNodes) != cached || end.OutputsReused != (cached > 0) {
			t.Errorf("cached nodes are %q, outputs reused %t; want %d", end.CachedNodes, end.OutputsReused, cached)
		}
	}
	for _, r := range f.sims["a"].Runs() {
		if r.Outcome != comfysim.Succeeded {
			t.Errorf("run %+v", r)
		}
	}
	if posted := len(f.sims["a"].Prompts()); posted != 2 {
		t.Errorf("%d prompts were posted for two jobs", posted)
	}
}

func TestAThousandShortJobsAllCompleteAndNoneRunsTwice(t *testing.T) {
	t.Parallel()
	const jobs = 1000
	hosts := names("a", "b", "c")
	for i := range hosts {
		hosts[i].JobTimeFor = func(class string, inputs map[string]any) time.Duration {
			if class != "EmptyImage" {
				return 0
			}
			color, _ := inputs["color"].(json.Number).Int64()
			return time.Duration(color%11) * time.Millisecond
		}
	}
	f := start(t, setup{dispatchers: 2, hosts: hosts})
	ends := make(chan *nats.Msg, 2*jobs)
	for _, kind := range []string{"completed", "dead", "cancelled"} {
		if _, err := f.nc.ChanSubscribe("comfy.events.jobs.*.*."+kind, ends); err != nil {
			t.Fatal(err)
		}
	}
	tenants := []string{"acme", "bolt", "core", "dune"}
	for i := range jobs {
		msg := nats.NewMsg("comfy.jobs." + tenants[i%len(tenants)] + ".5")
		msg.Header.Set("Comfy-Job-Id", fmt.Sprint("n-", i))
		msg.Data = picture(i)
		if err := f.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	prompts := map[string]bool{}
	for n := range jobs {
		select {
		case msg := <-ends:
			e, err := job.DecodeEvent(job.Completed, msg.Data)
			if err != nil || !strings.HasSuffix(msg.Subject, ".completed") || prompts[e.PromptID] {
				t.Fatalf("%s %s", msg.Subject, msg.Data)
			}
			prompts[e.PromptID] = true
			if n%50 == 0 {
				var color int
				if _, err := fmt.Sscanf(string(e.Job), "n-%d", &color); err != nil {
					t.Fatal(err)
				}
				f.wantPicture(e, rgb(color))
			}
		case <-f.context().Done():
			t.Fatalf("%d of %d jobs have ended", n, jobs)
		}
	}
	for name, sim := range f.sims {
		runs := sim.Runs()
		if len(runs) == 0 {
			t.Errorf("host %s ran nothing", name)
		}
		for _, r := range runs {
			if !prompts[r.PromptID] || r.Outcome != comfysim.Succeeded {
				t.Errorf("host %s ran prompt %s, %s, which is no job's or ran before", name, r.PromptID, r.Outcome)
			}
			delete(prompts, r.PromptID)
		}
	}
	if len(prompts) != 0 {
		t.Errorf("%d jobs completed without a run", len(prompts))
	}
	for subject, n := range f.subjects("COMFY_EVENTS", "comfy.events.jobs.>") {
		if n != 1 || strings.HasSuffix(subject, ".failed") {
			t.Errorf("%s stands %d times", subject, n)
		}
	}
}

func TestJobsOfDifferentHashesSpreadOverIdleHosts(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b", "c")})
	hosts := map[string]int{}
	for n := range 20 {
		end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, n)})) // all hosts are idle again before the next
		hosts[end.Host]++
	}
	if len(hosts) != 3 {
		t.Errorf("twenty hashes went to %v, want all three hosts", hosts)
	}
}

func TestJobsOfOneHashPreferTheHostThatIsWarmForIt(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b", "c")})
	// Three hashes for each host, so that chance does not explain the choice; now and then one may go elsewhere.
	elsewhere := 0
	for n := range 9 {
		host := []string{"a", "b", "c"}[n%3]
		f.end(f.submit("acme", onlyOn(host, inverted(1, n))))
		f.idle()
		if end := f.end(f.submit("bolt", job.Spec{Workflow: inverted(2, n)})); end.Host != host {
			elsewhere++
		}
	}
	if elsewhere > 3 {
		t.Errorf("%d of 9 jobs went elsewhere than to the host that had run their hash; without a preference it were 6", elsewhere)
	}
}
