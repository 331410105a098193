package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// polled are the prompts of a client that polls, as n8n does: it reads the queue, and of each prompt that is not there the history.
// What is in neither it takes for lost.
type polled struct {
	f      *fleet
	client *http.Client
	parts  []*victim // what is killed and started again
	gates  []*victim // the gateways among them
	calls  atomic.Int64

	mu    sync.Mutex // guards all below
	taken []string   // prompts that were answered 200
	all   bool       // no more are submitted
}

// victim is an actor that is killed now and then, with another in its place at once.
type victim struct {
	begin func(*victim) (kill func())
	kill  func()
	base  atomic.Pointer[string] // of a gateway: its address
}

// The leases are short, so that jobs of killed agents are soon tried again. On a machine that stands still one may run out too early; then
// the job has one more attempt.
func pollerConfig() queue.Config {
	return queue.Config{AckWait: 1500 * time.Millisecond, PresenceTTL: time.Second}
}

func TestAPollerFindsEveryPromptWhateverIsKilled(t *testing.T) {
	t.Parallel()
	prompts := 24
	if text := os.Getenv("POLLER_PROMPTS"); text != "" {
		var err error
		if prompts, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, setup{jetstream: pollerConfig()})
	p := &polled{f: f, client: &http.Client{Transport: &http.Transport{}, Timeout: testTimeout}}
	t.Cleanup(p.client.CloseIdleConnections)
	for _, name := range []string{"a", "b", "c", "d"} {
		p.host(name)
	}
	f.awaitPresence(4)
	for range 2 {
		p.part(func(*victim) func() {
			_, kill := f.dispatcher(dispatcher.Config{Policy: route.Policy{Cooldown: time.Second, Cap: time.Second, MaxFailures: 1000}})
			return kill
		})
	}
	for range 2 {
		p.gates = append(p.gates, p.part(p.gateway))
	}
	var submitting sync.WaitGroup
	submitting.Go(func() { p.submit(prompts) })
	p.watch(prompts)
	submitting.Wait()
}

// host starts a ComfyUI whose nodes fail now and then, with an agent that is killed.
func (p *polled) host(name string) {
	sim, err := comfysim.Start(comfysim.Config{Name: name, Faults: []comfysim.Fault{
		{Kind: comfysim.FaultRaise, Exception: "requests.exceptions.ConnectionError", Message: "no route", Every: 5},
	}})
	if err != nil {
		p.f.t.Fatal(err)
	}
	p.f.sims[name] = sim
	p.part(func(*victim) func() {
		_, kill := p.f.agent(name, sim.URL(), agent.Config{})
		return kill
	})
}

func (p *polled) gateway(m *victim) func() {
	_, kill := p.f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		g, err := gateway.New(q, gateway.Config{Listen: "127.0.0.1:0", Keys: map[string]job.Tenant{"poller-secret": "poller"}, Logger: p.f.logger()})
		if err != nil {
			p.f.t.Fatal(err)
		}
		base := "http://" + g.Addr()
		m.base.Store(&base)
		return g.Run
	})
	return kill
}

func (p *polled) part(begin func(*victim) func()) *victim {
	m := &victim{begin: begin}
	m.kill = begin(m)
	p.parts = append(p.parts, m)
	return m
}

// call asks the gateways in turn until one answers: those that are killed do not.
func (p *polled) call(method, path string, body []byte) []byte {
	var last error
	for deadline := time.Now().Add(testTimeout); time.Now().Before(deadline); {
		for range p.gates {
			gate := p.gates[p.calls.Add(1)%int64(len(p.gates))]
			r, err := http.NewRequestWithContext(p.f.context(), method, *gate.base.Load()+path, bytes.NewReader(body))
			if err != nil {
				p.f.t.Error(err)
				return nil
			}
			r.Header.Set("Authorization", "Bearer poller-secret")
			response, err := p.client.Do(r)
			if last = err; err != nil {
				continue
			}
			content, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if last = err; err == nil && response.StatusCode == http.StatusServiceUnavailable { // the gateway stops
				last = fmt.Errorf("%s %s: 503 %s", method, path, content)
			}
			if last != nil {
				continue
			}
			if response.StatusCode != http.StatusOK {
				p.f.t.Errorf("%s %s: %d %s", method, path, response.StatusCode, content)
			}
			return content
		}
	}
	p.f.t.Errorf("no gateway answers: %v", last)
	return nil
}

func (p *polled) get(path string, into any) {
	if err := json.Unmarshal(p.call(http.MethodGet, path, nil), into); err != nil {
		p.f.t.Errorf("GET %s: %v", path, err)
	}
}

// submit submits prompts with ids of its own, so that one whose answer was lost is sent again.
func (p *polled) submit(prompts int) {
	for i := range prompts {
		id := uuid.NewString()
		body := fmt.Sprintf(`{"prompt":%s,"prompt_id":%q,"max_attempts":100,"retry_delay":"20ms"}`, sleep(i, 0.1), id)
		if p.call(http.MethodPost, "/prompt", []byte(body)) == nil {
			break
		}
		p.mu.Lock()
		p.taken = append(p.taken, id)
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.all = true
	p.mu.Unlock()
}

// watch reads the queue and then the history, each 200 ms and whenever an actor has begun, until all prompts have ended. Whenever some
// more have ended it kills the next of the actors.
func (p *polled) watch(prompts int) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	ended, kills, rounds := map[string]bool{}, 0, 0
	born := make(chan struct{}, len(p.parts))
	var killing sync.WaitGroup
	defer killing.Wait()
	for deadline := time.Now().Add(testTimeout); ; rounds++ {
		before := len(ended)
		if p.round(ended) {
			p.f.t.Logf("%d prompts ended in %d rounds, %d actors were killed", prompts, rounds, kills)
			return
		}
		if len(ended) > before {
			deadline = time.Now().Add(testTimeout)
		}
		if step := max(1, prompts/(3*len(p.parts))); len(ended)/step > kills {
			killing.Wait() // one at a time, so that somebody is left
			next := p.parts[(kills*5)%len(p.parts)]
			kills++
			killing.Go(func() {
				next.kill()
				next.kill = next.begin(next)
				select {
				case born <- struct{}{}:
				default:
				}
			})
		}
		if time.Now().After(deadline) {
			p.f.t.Errorf("only %d of %d prompts have ended", len(ended), prompts)
			return
		}
		select {
		case <-tick.C:
		case <-born:
		}
	}
}

// round polls every prompt once, and reports whether all have ended.
func (p *polled) round(ended map[string]bool) bool {
	p.mu.Lock()
	taken, all := slices.Clone(p.taken), p.all
	p.mu.Unlock()
	var queued map[string][][]any
	p.get("/queue", &queued)
	waiting := map[string]bool{}
	for _, list := range queued {
		for _, entry := range list {
			waiting[entry[1].(string)] = true
		}
	}
	for _, id := range taken {
		if ended[id] && waiting[id] {
			p.f.t.Errorf("prompt %s is in the queue again after its end", id)
		}
		if ended[id] || waiting[id] {
			continue
		}
		var entry map[string]struct {
			Status struct{ Completed bool }
		}
		p.get("/history/"+id, &entry)
		if _, found := entry[id]; !found {
			p.f.t.Errorf("prompt %s is neither in the queue nor in the history", id)
		}
		if !entry[id].Status.Completed {
			p.f.t.Errorf("prompt %s has failed", id)
		}
		ended[id] = true
	}
	return all && len(ended) == len(taken)
}
