//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// load publishes the jobs of a seed with a plain NATS client per tenant, and remembers what JetStream has acked.
type load struct {
	f       *fleet
	seed    uint64
	every   time.Duration // between two jobs of a tenant
	stop    context.CancelFunc
	clients []*nats.Conn
	running sync.WaitGroup

	mu      sync.Mutex // guards all below
	known   map[string]*published
	acks    int
	repeats int // publishes whose ack did not come, and that were sent again
	cancels int // cancels that were answered
}

// published are all publishes under one id.
type published struct {
	tenant string
	id     string
	wish   wish
	acked  bool
	colors map[uint64]int // by sequence in COMFY_JOBS, of publishes that were acked
	tried  []int          // colours of all publishes
}

var tenants = []string{"acme", "blue", "core"}

func startLoad(f *fleet, seed uint64, every time.Duration) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{f: f, seed: seed, every: every, stop: stop, known: map[string]*published{}}
	for i, tenant := range tenants {
		nc := f.dial("publisher " + tenant)
		l.clients = append(l.clients, nc)
		l.running.Go(func() { l.publishLoop(ctx, nc, tenant, i) })
	}
	return l
}

// end stops publishing and waits for publishes under way. It may be called twice.
func (l *load) end() {
	l.stop()
	l.running.Wait()
	for _, nc := range l.clients {
		nc.Close()
	}
}

func (l *load) publishLoop(ctx context.Context, nc *nats.Conn, tenant string, first int) {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for n := first; ; n += len(tenants) {
		w := drawWish(l.seed, n)
		l.running.Go(func() { l.one(ctx, nc, tenant, w) })
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// one publishes a job and then cancels or repeats it, as the wish says. A publish that has begun is finished after the stop too, so
// that the test has a record of every published job.
func (l *load) one(stop context.Context, nc *nats.Conn, tenant string, w wish) {
	id := fmt.Sprintf("job-%d", w.number)
	if w.sort == invalid {
		l.publish(nc, tenant, "", w, invalidBody(w), w.color)
		return
	}
	if !l.publish(nc, tenant, id, w, l.body(id, w, w.color), w.color) {
		return
	}
	if w.sort != cancelled && w.sort != twice {
		return
	}
	timer := time.NewTimer(w.after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop.Done():
	}
	if w.sort == twice {
		l.publish(nc, tenant, id, w, l.body(id, w, w.color+1), w.color+1)
		return
	}
	l.cancel(nc, tenant, id)
}

const publishTries = 60

// publish sends a message until JetStream acks it. One without an id may then stand there several times, as several
// jobs; one with an id is one job.
func (l *load) publish(nc *nats.Conn, tenant, id string, w wish, body []byte, color int) bool {
	key := tenant + "/" + id
	if id == "" {
		key = fmt.Sprintf("%s#%d", tenant, w.number)
	}
	l.mu.Lock()
	p := l.known[key]
	if p == nil {
		p = &published{tenant: tenant, id: id, wish: w, colors: map[uint64]int{}}
		l.known[key] = p
	}
	p.tried = append(p.tried, color)
	l.mu.Unlock()
	for range publishTries {
		sequence, err := publishOnce(nc, "comfy.jobs."+tenant+"."+strconv.Itoa(w.priority), body)
		l.mu.Lock()
		if err == nil {
			l.acks++
			p.acked, p.colors[sequence] = true, color
			l.mu.Unlock()
			return true
		}
		l.repeats++
		l.mu.Unlock()
	}
	return false
}

func publishOnce(nc *nats.Conn, subject string, body []byte) (uint64, error) {
	answer, err := nc.Request(subject, body, 2*time.Second)
	if err != nil {
		pauseFor(100 * time.Millisecond)
		return 0, err
	}
	var ack struct {
		Sequence uint64 `json:"seq"`
		Error    *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, err
	}
	if ack.Error != nil {
		pauseFor(100 * time.Millisecond)
		return 0, errors.New(ack.Error.Description)
	}
	return ack.Sequence, nil
}

func pauseFor(d time.Duration) { <-time.After(d) }

// cancel asks any dispatcher until one answers.
func (l *load) cancel(nc *nats.Conn, tenant, id string) {
	body := fmt.Appendf(nil, `{"tenant":%q,"job":%q,"by":"chaos"}`, tenant, id)
	for range 20 {
		answer, err := nc.Request("comfy.api.cancel", body, time.Second)
		if err == nil && answer.Header.Get("Nats-Service-Error") == "" {
			l.mu.Lock()
			l.cancels++
			l.mu.Unlock()
			return
		}
		pauseFor(100 * time.Millisecond)
	}
}

// snapshot copies the record of publishes.
func (l *load) snapshot() map[string]published {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]published, len(l.known))
	for key, p := range l.known {
		clone := *p
		clone.colors, clone.tried = maps.Clone(p.colors), slices.Clone(p.tried)
		all[key] = clone
	}
	return all
}

// body is a job's envelope.
func (l *load) body(id string, w wish, color int) []byte {
	spec := map[string]any{"id": id, "workflow": workflowOf(w, color), "retry_delay": "200ms"}
	if w.sort == expiring {
		spec["expires_in"] = w.expires.String()
	}
	if w.sort == late {
		spec["run_at"] = time.Now().Add(w.after).UTC().Format(time.RFC3339Nano)
	}
	return encode(l.f.t, spec)
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Error(err)
	}
	return encoded
}

// workflowOf makes a workflow that saves a picture of one colour. Different node ids give different structures, and so hashes. A
// deadly job has a hash of its own, since guilt applies to all jobs of a hash.
func workflowOf(w wish, color int) map[string]any {
	sleep := strconv.Itoa(20 + w.shape)
	if w.sort == deadly {
		sleep = strconv.Itoa(40 + w.shape)
	}
	graph := map[string]any{
		"1":   node("EmptyImage", "width", w.size, "height", w.size, "batch_size", 1, "color", color),
		sleep: node("SimSleep", "image", link("1"), "seconds", w.ran.Seconds(), "steps", 4),
		"9":   node("SaveImage", "images", link(sleep), "filename_prefix", "chaos"),
	}
	switch w.sort {
	case raising:
		graph["30"] = node("SimRaise", "image", link(sleep), "kind", "ValueError", "message", "this graph never works")
		graph["9"] = node("SaveImage", "images", link("30"), "filename_prefix", "chaos")
	case deadly:
		graph["9"] = node("SaveImage", "images", link(sleep), "filename_prefix", deadlyPrefix)
	case incapable:
		graph["30"] = node("NobodyHasThisNode", "image", link(sleep))
		graph["9"] = node("SaveImage", "images", link("30"), "filename_prefix", "chaos")
	}
	return graph
}

// deadlyPrefix marks a job under which every host dies.
const deadlyPrefix = "deadly"

func node(class string, inputs ...any) map[string]any {
	in := map[string]any{}
	for i := 0; i < len(inputs); i += 2 {
		in[inputs[i].(string)] = inputs[i+1]
	}
	return map[string]any{"class_type": class, "inputs": in}
}

func link(id string) []any { return []any{id, 0} }

func invalidBody(w wish) []byte {
	bad := []string{`{"nodes":[],"links":[]}`, `not JSON at all`, `{"id":"j-stolen-1","workflow":{}}`, `[]`, `{"workflow":{"1":7}}`}
	return []byte(bad[w.number%len(bad)])
}
