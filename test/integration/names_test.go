package integration_test

import (
	"encoding/json"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAnIdPublishedTwiceByOneTenantRunsOnce(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
	for name, publish := range map[string]func(id string, color int){
		"InTheHeader":  func(id string, color int) { f.publish("comfy.jobs.acme.5", picture(color), "Comfy-Job-Id", id) },
		"InTheBody":    func(id string, color int) { f.publish("comfy.jobs.acme.5", f.envelope(id, color)) },
		"InAnother":    func(id string, color int) { f.publish("comfy.jobs.acme.9", f.envelope(id, color), "Comfy-Job-Id", id) },
		"AsNatsMsgIds": func(id string, color int) { f.publish("comfy.jobs.acme.5", picture(color), "Nats-Msg-Id", id) },
	} {
		publish(name, 0x111111)
		publish(name, 0x111111) // at once: two dispatchers may get them in either order
		r := receipt("acme", name)
		f.await(r, job.Started)
		publish(name, 0x333333) // while it runs
		chain := f.chain(r)
		if got, want := kinds(chain), "queued started completed"; got != want {
			t.Errorf("%s: chain is %q, want %q", name, got, want)
		}
		f.wantPicture(chain[len(chain)-1], rgb(0x111111))
		publish(name, 0x444444) // after its end
		f.drained()
	}
	if runs := f.runs(); runs["a"]+runs["b"] != 4 {
		t.Errorf("the hosts ran %v, want 4 in all", runs)
	}
}

func (f *fleet) envelope(id string, color int) []byte {
	f.t.Helper()
	body, err := json.Marshal(job.Spec{ID: job.ID(id), Workflow: picture(color)})
	if err != nil {
		f.t.Fatal(err)
	}
	return body
}

func TestAnIdOfTwoTenantsIsTwoJobs(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
	colors := map[string]int{"acme": 0x111111, "bolt": 0x222222}
	for tenant, color := range colors {
		f.publish("comfy.jobs."+tenant+".5", picture(color), "Comfy-Job-Id", "same")
	}
	for tenant, color := range colors {
		f.wantPicture(f.end(receipt(tenant, "same")), rgb(color))
	}
	if runs := f.runs(); runs["a"]+runs["b"] != 2 {
		t.Errorf("the hosts ran %v, want 2 in all", runs)
	}
}
