// Package gateway_test shows that programs which were written for ComfyUI work with a fleet: it sends what they send, in their order,
// to a gateway before real in-process NATS, a dispatcher, agents and simulated ComfyUI over sockets.
package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

const (
	checkpoint = "v1-5-pruned-emaonly.safetensors"
	onlyB      = "only-b.safetensors"

	// testTimeout is the longest wait for an event; a test that needs it all has failed.
	testTimeout = 60 * time.Second
)

// fleet is a complete comfyherd in this process, which the tests share: each has a tenant of its own.
type fleet struct {
	nats  *natsserver.Server
	q     *queue.Queue
	sims  map[string]*comfysim.Server
	stops []func()
}

var shared *fleet

func TestMain(m *testing.M) {
	f, err := newFleet()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared = f
	code := m.Run()
	f.close()
	os.Exit(code)
}

func newFleet() (*fleet, error) {
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		return nil, err
	}
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir})
	if err != nil {
		return nil, err
	}
	f := &fleet{nats: server, sims: map[string]*comfysim.Server{}}
	f.stops = append(f.stops, func() { _ = server.Close(); _ = os.RemoveAll(dir) })
	if f.q, err = f.connect(); err != nil {
		return nil, err
	}
	hosts := []comfysim.Config{
		{Name: "a", Previews: true, Models: map[string][]string{"checkpoints": {checkpoint}}},
		{Name: "b", Previews: true, Models: map[string][]string{"checkpoints": {checkpoint, onlyB}}},
		{Name: "c", Previews: true, Models: map[string][]string{"checkpoints": {checkpoint}}},
		{Name: "d", Previews: true, Models: map[string][]string{"checkpoints": {checkpoint}}},
	}
	for _, cfg := range hosts {
		cfg.Packs = packsOf(cfg.Name)
		if err := f.host(cfg); err != nil {
			return nil, err
		}
	}
	policy := route.Policy{Cooldown: time.Second, Cap: 2 * time.Second, MaxFailures: 100}
	return f, f.actor(func(q *queue.Queue) (func(stop, kill context.Context) error, error) {
		d, err := dispatcher.New(q, dispatcher.Config{Policy: policy, CapableWait: time.Minute, Logger: logger()})
		if err != nil {
			return nil, err
		}
		return d.Run, nil
	})
}

// host starts a simulated ComfyUI with its agent.
func (f *fleet) host(cfg comfysim.Config) error {
	sim, err := comfysim.Start(cfg)
	if err != nil {
		return err
	}
	f.sims[cfg.Name] = sim
	f.stops = append(f.stops, sim.Close)
	return f.actor(func(q *queue.Queue) (func(stop, kill context.Context) error, error) {
		a, err := agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: cfg.Name, URL: sim.URL()}}, Logger: logger()})
		if err != nil {
			return nil, err
		}
		return a.Run, nil
	})
}

func logger() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("COMFYHERD_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func (f *fleet) connect() (*queue.Queue, error) {
	nc, err := nats.Connect(f.nats.URL(), nats.MaxReconnects(-1))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		return nil, err
	}
	f.stops = append(f.stops, func() { q.Close(); nc.Close() })
	return q, nil
}

// actor runs a dispatcher or an agent on a connection of its own until close.
func (f *fleet) actor(build func(*queue.Queue) (func(stop, kill context.Context) error, error)) error {
	q, err := f.connect()
	if err != nil {
		return err
	}
	run, err := build(q)
	if err != nil {
		return err
	}
	f.stops = append(f.stops, running(run))
	return nil
}

func running(run func(stop, kill context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := run(ctx, ctx); err != nil {
			fmt.Fprintln(os.Stderr, "an actor has ended:", err)
		}
	})
	return func() { cancel(); done.Wait() }
}

func (f *fleet) close() {
	for i := len(f.stops) - 1; i >= 0; i-- {
		f.stops[i]()
	}
}

// face is a gateway as a client of one tenant sees it.
type face struct {
	t      *testing.T
	tenant job.Tenant
	key    string
	base   string // http://host:port
}

// tenantOf names a tenant after the test, so that each test has its own.
func tenantOf(t *testing.T) job.Tenant {
	t.Helper()
	name := strings.NewReplacer("/", "-", "#", "-").Replace(strings.TrimPrefix(t.Name(), "Test"))
	return job.Tenant(name[max(0, len(name)-64):])
}

// open starts a gateway for the tenants; the first is the one of the face.
func open(t *testing.T, tenants ...job.Tenant) *face {
	t.Helper()
	return openWith(t, gateway.Config{}, tenants...)
}

// openWith is open with other settings.
func openWith(t *testing.T, cfg gateway.Config, tenants ...job.Tenant) *face {
	t.Helper()
	if len(tenants) == 0 {
		tenants = []job.Tenant{tenantOf(t)}
	}
	cfg.Listen, cfg.Keys, cfg.Logger = "127.0.0.1:0", map[string]job.Tenant{}, logger()
	for _, tenant := range tenants {
		cfg.Keys[keyOf(tenant)] = tenant
	}
	g, err := gateway.New(shared.q, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running(g.Run))
	return &face{t: t, tenant: tenants[0], key: keyOf(tenants[0]), base: "http://" + g.Addr()}
}

func keyOf(tenant job.Tenant) string { return "key-of-" + string(tenant) }

// as is the same gateway for a client of another tenant.
func (f *face) as(tenant job.Tenant) *face {
	return &face{t: f.t, tenant: tenant, key: keyOf(tenant), base: f.base}
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// fields decodes the body.
func (a *answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %.300s", err, a.body)
	}
}

func (f *face) do(method, path string, body any, header ...string) *answer {
	f.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	case []byte:
		content = bytes.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			f.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), testTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, f.base+path, content)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.key)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{response.StatusCode, response.Header, read}
}

// get wants 200 and gives the decoded answer.
func (f *face) get(path string) map[string]any {
	f.t.Helper()
	a := f.do(http.MethodGet, path, nil)
	if a.status != http.StatusOK {
		f.t.Fatalf("GET %s: %d %.300s", path, a.status, a.body)
	}
	var v map[string]any
	a.into(f.t, &v)
	return v
}

// prompt submits a graph and gives its id.
func (f *face) prompt(body map[string]any) string {
	f.t.Helper()
	a := f.do(http.MethodPost, "/prompt", body)
	if a.status != http.StatusOK {
		f.t.Fatalf("POST /prompt: %d %s", a.status, a.body)
	}
	var got struct {
		ID string `json:"prompt_id"`
	}
	a.into(f.t, &got)
	return got.ID
}

// ended waits until a prompt is in the history and gives its entry.
func (f *face) ended(id string) map[string]any {
	f.t.Helper()
	for deadline := time.Now().Add(testTimeout); ; {
		if entry, _ := f.get("/history/" + id)[id].(map[string]any); entry != nil {
			return entry
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("prompt %s is not in the history; the queue is %v", id, f.get("/queue"))
		}
	}
}

type graph = map[string]any

func node(class string, inputs map[string]any) map[string]any {
	return map[string]any{"class_type": class, "inputs": inputs}
}

// picture is a graph that draws and saves one picture; different colours are different prompts.
func picture(colour int) graph {
	return graph{
		"1": node("EmptyImage", map[string]any{"width": 16, "height": 16, "batch_size": 1, "color": colour}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "ComfyUI"}),
	}
}

// slow is a graph that takes a time in ten steps, with previews.
func slow(seconds float64, colour int) graph {
	g := picture(colour)
	g["3"] = node("SimSleep", map[string]any{"image": []any{"1", 0}, "seconds": seconds, "steps": 10, "preview": "JPEG"})
	g["2"] = node("SaveImage", map[string]any{"images": []any{"3", 0}, "filename_prefix": "ComfyUI"})
	return g
}

// endless is a graph that runs until it is cancelled, which it notices within a tenth of a second.
func endless(colour int) graph {
	g := slow(0, colour)
	g["3"] = node("SimSleep", map[string]any{"image": []any{"1", 0}, "seconds": 60, "steps": 600, "preview": "JPEG"})
	return g
}
