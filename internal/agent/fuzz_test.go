package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// oddValues are what a header or a field may hold; what is good in one place is bad in another.
var oddValues = []string{
	"", "0", "-1", "1", "2", "7", "1000001", "99999999999999999999", "1s", "0s", "-1s", "999ms", "1h", "61m", "3000000h", "true", "acme", "a.b", "*", ">",
	strings.Repeat("x", 300), strings.Repeat("a", 64), strings.Repeat("0", 64), "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "now", "$JS.ACK.x", "null", "{}",
}

var offerHeaders = []string{
	"Comfy-Job-Id", "Comfy-Tenant", "Comfy-Priority", "Comfy-Hash", "Comfy-Attempt", "Comfy-Resume", "Comfy-Lease", "Comfy-Ack-Wait",
	"Comfy-Last-Sequence", "Comfy-Sequence", "Comfy-Received", "Comfy-Quiet", "Comfy-Free-Slot", "Comfy-Requeue-Of",
}

var oddBodies = []string{
	saves, another, loads, "", "{", "[]", `{"workflow":{}}`, `{"workflow":` + saves + `,"timeouts":{"total":"-5s"},"inputs":[{"node":"1","input":"image","url":"data:,"}]}`,
	`{"workflow":` + saves + `,"include_outputs":["nope"],"extra_data":{"a":NaN}}`,
}

var oddEvents = []string{"queued", "started", "failed", "retrying", "completed", "cancelled", "dead", "nonsense"}

// fuzzed is a real agent that receives what the fuzzer makes up.
type fuzzed struct {
	*house
	t *testing.T // of the one input
}

// FuzzAHostHearsAnything sends sequences of offers, controls, events and ComfyUI's answers to a real host. Nothing may stop
// it: after each sequence it answers, holds no more than it may, and says so in a state that others can read.
func FuzzAHostHearsAnything(f *testing.F) {
	for _, seed := range [][]byte{
		{0, 0, 1, 0, 2, 0, 3, 0}, {0, 13, 4, 1, 0, 5, 2, 0, 0, 1, 5, 1, 1, 0, 1},
		{1, 0, 4, 9, 1, 4, 14, 1, 7, 18, 0, 0, 0, 3, 3, 0}, {2, 1, 2, 2, 2, 3, 2, 4, 2, 5},
		{0, 1, 1, 3, 0, 1, 3, 1, 1, 3, 5, 1, 3, 4, 1}, {4, 0, 4, 1, 4, 2, 4, 3, 4, 4, 4, 5, 0, 0, 0, 4, 6, 4, 7},
		{5, 2, 0, 1, 1, 5, 3, 0, 2, 1, 5, 4, 0, 3, 1, 5, 5, 0, 4, 1, 5, 6, 0, 5, 1}, {0, 4, 9, 1, 4, 14, 1, 7, 18, 0, 1, 0, 3, 3, 0},
	} {
		f.Add(seed)
	}
	h := fuzzHouse(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		z := &fuzzed{h, t}
		z.play(script)
		z.check()
	})
}

func fuzzHouse(f *testing.F) *house {
	f.Helper()
	s := startNATS(f, f.TempDir(), -1)
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(10*time.Second))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	q, err := queue.Open(ctx, nc, queue.Config{AckWait: 5 * time.Second, PresenceTTL: 3 * time.Second})
	if err != nil {
		f.Fatal(err)
	}
	h := &house{ctx: ctx, q: q, nc: nc, nats: s, fake: newFake()}
	h.fake.spared = true
	h.fake.returns(now(), &comfy.Result{}, nil)
	a, err := agent.New(q, agent.Config{
		Hosts: []agent.HostConfig{{Name: "gpu", Comfy: h.fake}}, LearnEvery: 10 * time.Millisecond, CancelTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		f.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx, ctx); err != nil && ctx.Err() == nil {
			panic(fmt.Sprintf("the agent has ended: %v", err)) // which no input may bring about
		}
	})
	f.Cleanup(func() {
		cancel()
		running.Wait()
		q.Close()
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for a.Health() != nil { // an agent that is well listens
		<-tick.C
	}
	return h
}

// next takes one byte of what is left, 0 when nothing is.
func next(script *[]byte) int {
	if len(*script) == 0 {
		return 0
	}
	b := (*script)[0]
	*script = (*script)[1:]
	return int(b)
}

func pick(script *[]byte, of []string) string { return of[next(script)%len(of)] }

func (z *fuzzed) play(script []byte) {
	for steps := 0; len(script) > 0 && steps < 60; steps++ {
		switch next(&script) % 6 {
		case 0:
			z.offers(&script, 0)
		case 1:
			z.offers(&script, 1+next(&script)%4)
		case 2:
			z.asks("comfy.hosts.gpu.control", nil, pick(&script, []string{
				`{"drain":true}`, `{"resume":true}`, `{"drain":true,"resume":true}`, `{}`, `[]`, ``, `{"drain":1}`, `{"drain":true,"by":"` + strings.Repeat("x", 5000) + `"}`,
			}))
		case 3:
			z.tells(&script)
		case 4:
			z.becomes(next(&script))
		case 5:
			z.ends(next(&script))
		}
	}
}

// offers sends an offer of which so many headers are odd.
func (z *fuzzed) offers(script *[]byte, odd int) {
	header := nats.Header{
		"Comfy-Job-Id": {fmt.Sprint("job", next(script)%8)}, "Comfy-Tenant": {"acme"}, "Comfy-Priority": {"5"}, "Comfy-Hash": {strings.Repeat("a", 64)},
		"Comfy-Attempt": {fmt.Sprint(1 + next(script)%3)}, "Comfy-Lease": {"$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0"}, "Comfy-Ack-Wait": {"5s"}, "Comfy-Last-Sequence": {"0"}, "Comfy-Sequence": {"1"},
		"Comfy-Received": {"2026-01-01T00:00:00Z"},
	}
	for range odd {
		header[pick(script, offerHeaders)] = []string{pick(script, oddValues)}
	}
	z.asks("comfy.hosts.gpu.offer", header, pick(script, oddBodies))
}

// asks wants an answer that has the host's state, if the host has said anything of it.
func (z *fuzzed) asks(subject string, header nats.Header, body string) queue.Reply {
	z.t.Helper()
	msg, err := z.nc.RequestMsg(&nats.Msg{Subject: subject, Header: header, Data: []byte(body)}, testTimeout)
	if err != nil {
		z.t.Fatalf("%s with %v and %.100q has no answer: %v", subject, header, body, err)
	}
	var r queue.Reply
	if err := json.Unmarshal(msg.Data, &r); err != nil || r.Answer == "" {
		z.t.Fatalf("%s was answered %q: %v", subject, msg.Data, err)
	}
	if s := &r.State; s.Host != "" && (s.Slots < 1 || s.Prefetch < 0 || s.Foreign < 0 || s.Serial == 0) {
		z.t.Fatalf("%s was answered with the state %+v", subject, s)
	}
	return r
}

// tells says something on a job's chain, as somebody else.
func (z *fuzzed) tells(script *[]byte) {
	e := job.Event{
		EventKind: job.EventKind(pick(script, oddEvents)), Tenant: "acme", Job: job.ID(fmt.Sprint("job", next(script)%8)), Attempt: next(script) - 3,
		Host: pick(script, oddValues), PromptID: pick(script, oddValues), Time: time.Now(),
	}
	last, _, err := z.q.Last(z.ctx, "acme", e.Job)
	if err != nil {
		z.t.Fatal(err)
	}
	_, _ = z.q.Append(z.ctx, &e, last.ChainSequence, "test", "") // an event that is refused reaches no subscriber
	body := pick(script, oddBodies)
	if err := z.nc.Publish("comfy.events.jobs.acme."+string(e.Job)+".cancelled", []byte(body)); err != nil {
		z.t.Fatal(err)
	}
}

// becomes changes ComfyUI.
func (z *fuzzed) becomes(what int) {
	z.fake.set(func() {
		f := z.fake
		switch what % 8 {
		case 0:
			f.down, f.stuck, f.sick, f.full, f.barred, f.state = nil, nil, "", nil, nil, comfy.State{Connected: true}
		case 1:
			f.down, f.state.Connected = errRefused, false
		case 2:
			f.stuck = errRefused
		case 3:
			f.process += "x"
		case 4:
			f.full = comfy.ErrNoRoom
		case 5:
			f.barred = errors.New("HTTP 401")
		case 6:
			f.state.QueueRemaining = what - 128
		case 7:
			f.sick = "its worker thread is gone"
		}
	})
}

// ends says how prompts end from now on.
func (z *fuzzed) ends(how int) {
	var err error
	result := &comfy.Result{}
	switch kinds := failure.Kinds(); {
	case how == 0:
		err = errors.New("no failure at all")
	case how <= len(kinds):
		err = failure.New(kinds[how-1], "so it ended")
	case how <= len(kinds)+len(failure.Causes()):
		err = &failure.Failure{Kind: failure.HostSick, Cause: failure.Causes()[how-len(kinds)-1], Message: "so it ended", Progress: -1, NodeRan: -time.Hour}
	default:
		result.Outputs = []comfy.Output{{Node: "../..", Media: "text", Filename: "..", Type: "output"}, {Type: "temp"}, {Filename: "a/b\\c", Type: comfy.Websocket}}
		result.Texts = map[string][]string{"": {"", "x"}, ">": {strings.Repeat("y", how*100)}}
	}
	z.fake.returns(now(), result, err)
}

// check wants a host that goes on: it answers, and is empty in the end.
func (z *fuzzed) check() {
	z.t.Helper()
	z.becomes(0)
	z.fake.returns(now(), &comfy.Result{}, nil)
	ctx, cancel := context.WithTimeout(z.ctx, testTimeout)
	defer cancel()
	for ctx.Err() == nil {
		if r := z.asks("comfy.hosts.gpu.control", nil, `{"resume":true}`); len(r.State.Running) == 0 {
			return
		}
	}
	z.t.Error("runs do not end")
}
