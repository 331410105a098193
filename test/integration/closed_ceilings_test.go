package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The colors of pictures that the hosts run out of memory at, or die of.
const (
	hugeColor   = 0x666666
	deadlyColor = 0x777777
	hostsWords  = "4 GiB of bolt's own picture" // what the host says of the failure
)

const roomOfRow6 = 20 // tickets of all tenants

// Rows 6, 9, 10 and 11 of the attacks: what bolt uses up, breaks or asks for without measure with its own credentials takes
// nothing from acme. All attacks are messages of a plain NATS client on bolt's lanes.
func TestATenantThatUsesUpOrBreaksWhatItCanTakesNothingFromAnother(t *testing.T) {
	t.Parallel()
	usual := job.Usual
	faults := []comfysim.Fault{
		{Kind: comfysim.FaultOOM, Text: fmt.Sprint(hugeColor), Message: hostsWords},
		{Kind: comfysim.FaultDie, Text: fmt.Sprint(deadlyColor), Restart: 100 * time.Millisecond},
	}
	f := startClosedSetup(t, setup{
		config: dispatcher.Config{WaitingCap: roomOfRow6, MaxPriority: &usual}, // as run --access has it
		agent:  agent.Config{TotalTimeout: 8 * time.Second},
		hosts:  []comfysim.Config{{Name: "gpu-1", Faults: faults}, {Name: "gpu-2", Faults: faults}},
	})
	acme, _ := f.tenant("acme")
	bolt, _ := f.as(f.folder.Tenant("bolt", natsserver.TenantSettings{MaxPayload: 8 << 20}))
	rows := attackRows{closed: f, acme: acme, bolt: bolt, bolts: f.listen(bolt, "comfy.events.jobs.bolt.>")}
	for _, row := range []struct {
		name   string
		attack func()
	}{
		{"row 11: workflows of very many classes", rows.wideWorkflows},
		{"row 10: a flood of priority 9", rows.urgentFlood},
		{"row 10: timeouts of 0s", rows.endlessRun},
		{"row 9: running out of memory with acme's workflow", rows.outOfMemory},
		{"row 9: hosts that die with acme's workflow", rows.deadHosts},
		{"row 6: jobs for later up to the waiting cap", rows.fullWaitingRoom}, // last, since they stay
	} {
		t.Log(row.name)
		row.attack()
	}
}

type attackRows struct {
	*closed
	acme, bolt *nats.Conn
	bolts      *nats.Subscription // bolt's events
}

// send publishes a job of bolt's and gives the answer of NATS.
func (a *attackRows) send(priority int, id string, body []byte) string {
	a.t.Helper()
	msg := nats.NewMsg(fmt.Sprint("comfy.jobs.bolt.", priority))
	msg.Header.Set("Comfy-Job-Id", id)
	msg.Data = body
	answer, err := a.bolt.RequestMsgWithContext(a.context(), msg)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(answer.Data)
}

// sent publishes a job that NATS stores.
func (a *attackRows) sent(priority int, spec job.Spec) {
	a.t.Helper()
	if answer := a.send(priority, string(spec.ID), envelope(a.t, spec)); strings.Contains(answer, "error") {
		a.t.Fatalf("%s: %s", spec.ID, answer)
	}
}

// event waits for an event of one of bolt's jobs; without an id of any.
func (a *attackRows) event(id, kind string) (e jetstream.Event) {
	a.t.Helper()
	suffix := "." + kind
	if id != "" {
		suffix = "." + id + suffix
	}
	if err := json.Unmarshal(a.next(a.bolts, suffix).Data, &e); err != nil {
		a.t.Fatal(err)
	}
	return e
}

func (a *attackRows) wideWorkflows() {
	a.t.Helper()
	wide := func(classes int) []byte {
		nodes := map[string]any{}
		for n := range classes {
			nodes[fmt.Sprint(n)] = node(fmt.Sprint("C", n))
		}
		return graph(nodes)
	}
	if answer := a.send(5, "widest", wide(150_000)); !strings.Contains(answer, "message size exceeds maximum allowed") {
		a.t.Errorf("150 000 classes: %s", answer)
	}
	const jobs = 60
	body := wide(5000)
	for n := range jobs {
		a.send(5, fmt.Sprint("wide-", n), body)
	}
	for range jobs {
		if e := a.event("", "dead"); e.Kind != failure.InvalidWorkflow || !strings.Contains(e.Message, "more than the 4096") {
			a.t.Fatalf("%s is dead as %s: %s", e.Job, e.Kind, e.Message)
		}
	}
	a.runs(a.acme, "acme", "after-row-11")
}

func (a *attackRows) endlessRun() {
	a.t.Helper()
	none := job.Duration(0)
	a.sent(5, job.Spec{
		ID: "endless", Workflow: sleep(1, 600), MaxAttempts: 1, Timeouts: &job.Timeouts{Start: &none, Node: &none, Total: &none},
	})
	if e := a.event("endless", "failed"); e.Kind != failure.Timeout {
		a.t.Errorf("a run without an end failed as %s: %s", e.Kind, e.Message)
	}
	a.event("endless", "dead")
	a.runs(a.acme, "acme", "after-row-10")
}

// Priority 9 counts as 5, so acme's job is the next one: acme has run less lately.
func (a *attackRows) urgentFlood() {
	a.t.Helper()
	o := a.fleet.order()
	for n := range 60 {
		a.sent(9, job.Spec{ID: job.ID(fmt.Sprint("flood-", n)), Workflow: nap(0.3, 0, n)})
	}
	for range 10 {
		a.next(a.bolts, ".completed")
	}
	a.runs(a.acme, "acme", "beside-row-10")
	a.has(o, "acme/beside-row-10.completed")
	words := o.words()
	between := words[index(words, "acme/beside-row-10.queued"):index(words, "acme/beside-row-10.started")]
	// Each of the two hosts may have begun one job and hold another when acme's came.
	if n := count(between, started("bolt/flood-")); n > 4 {
		a.t.Errorf("%d jobs of priority 9 were started before acme's", n)
	}
	a.eventually("the flood is over", func() bool { return a.total("COMFY_JOBS", "comfy.jobs.bolt.9") == 0 })
}

func (a *attackRows) outOfMemory() {
	a.t.Helper()
	spec := once("gpu-1", picture(hugeColor))
	spec.ID = "huge"
	a.sent(5, spec)
	if e := a.event("huge", "failed"); e.Kind != failure.OutOfMemory || !strings.Contains(e.Message, hostsWords) {
		a.t.Errorf("bolt's job failed as %s: %s", e.Kind, e.Message)
	}
	a.event("huge", "dead")
	a.wantBlockOf("gpu-1", picture(hugeColor), "bolt")
	events := a.listen(a.acme, "comfy.events.jobs.acme.>")
	same := onlyOn("gpu-1", picture(0x102030))
	same.ID = "same-graph"
	a.publish(a.acme, "acme", same)
	a.next(events, ".same-graph.completed")

	a.wordsOfOthers(events)
}

// wordsOfOthers has two tenants run out of memory with one workflow, so that carl's jobs of it wait as well.
func (a *attackRows) wordsOfOthers(acmes *nats.Subscription) {
	a.t.Helper()
	spec := once("gpu-1", inverted(hugeColor, 2))
	spec.ID = "huge-too"
	a.sent(5, spec)
	a.event("huge-too", "dead")
	a.publish(a.acme, "acme", spec)
	a.next(acmes, ".huge-too.dead")
	carl, _ := a.tenant("carl")
	carls := a.listen(carl, "comfy.events.jobs.carl.>")
	held := onlyOn("gpu-1", inverted(1, 2))
	held.ID = "held"
	a.publish(carl, "carl", held)
	waits := string(a.next(carls, ".held.waiting").Data)
	why, err := carl.RequestWithContext(a.context(), "comfy.tenants.carl.why", []byte(`{"job":"held"}`))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, text := range []string{waits, string(why.Data)} {
		if !strings.Contains(text, "out of memory on jobs of others") || strings.Contains(text, hostsWords) {
			a.t.Errorf("of the failures of others carl reads: %s", text)
		}
	}
}

func (a *attackRows) deadHosts() {
	a.t.Helper()
	a.sent(5, job.Spec{ID: "deadly", Workflow: inverted(deadlyColor, 1), MaxAttempts: 9})
	if e := a.event("deadly", "dead"); e.Reason != string(failure.TakesHostsDown) || len(e.Attempts) != 2 {
		a.t.Errorf("bolt's job is dead for %s after %d attempts: %s", e.Reason, len(e.Attempts), e.Message)
	}
	events := a.listen(a.acme, "comfy.events.jobs.acme.>")
	for _, host := range []string{"gpu-1", "gpu-2"} {
		a.wantBlockOf(host, inverted(deadlyColor, 1), "")
		spec := onlyOn(host, inverted(0x102030, 1))
		spec.ID = job.ID("alive-" + host)
		a.publish(a.acme, "acme", spec)
		a.next(events, "."+string(spec.ID)+".completed")
	}
}

func (a *attackRows) fullWaitingRoom() {
	a.t.Helper()
	const jobs = 60
	later := time.Now().Add(365 * 24 * time.Hour)
	for n := range jobs {
		a.sent(n%10, job.Spec{ID: job.ID(fmt.Sprint("later-", n)), Workflow: nap(0, 0, n), RunAt: &later})
	}
	for range jobs {
		a.event("", "queued")
	}
	events := a.listen(a.acme, "comfy.events.jobs.acme.>")
	for _, lane := range []string{"0", "5"} {
		msg := nats.NewMsg("comfy.jobs.acme." + lane)
		msg.Header.Set("Comfy-Job-Id", "row-6-"+lane)
		msg.Data = nap(0, 0, 1)
		if err := a.acme.PublishMsg(msg); err != nil {
			a.t.Fatal(err)
		}
		a.next(events, ".row-6-"+lane+".completed")
	}
	if n := len(a.tickets()); n == 0 || n > 2*roomOfRow6 {
		a.t.Errorf("bolt has %d tickets where %d are for all", n, roomOfRow6)
	}
}
