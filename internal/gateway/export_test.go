package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Identify gives the tenant and path that a handler receives of a request to an address that only this machine reaches, and the status of
// the answer.
func Identify(cfg Config, fallback job.Tenant, r *http.Request) (tenant job.Tenant, path string, status int) {
	g := &Gateway{keys: newKeyring(cfg.Keys), metrics: newMetrics()}
	answer := httptest.NewRecorder()
	g.identify(fallback, true, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tenant, _ = tenantOf(r)
		path = r.URL.Path
	})).ServeHTTP(answer, r)
	return tenant, path, answer.Code
}

// Serves reports whether a host may run a tenant's jobs after changes of grants.
func Serves(tenant job.Tenant, host string, changes ...queue.Change[queue.HostGrant]) bool {
	c := newCatalogs(nil, func() {})
	for _, change := range changes {
		c.grant(change)
	}
	return c.serves(tenant, host)
}

// MergeClasses merges the object_info of hosts, each with how many answer it.
func MergeClasses(answers map[string]int) map[string]string {
	var sources []source
	for body, hosts := range answers {
		sources = append(sources, source{classes: parseClasses([]byte(body)), hosts: hosts})
	}
	merged := map[string]string{}
	for class, def := range mergeClasses(sources).defs {
		merged[class] = string(def)
	}
	return merged
}

// ReadPrompt reads the body of POST /prompt and gives what is stored of it.
func ReadPrompt(body []byte) (stored []byte, err error) {
	p, err := readPrompt(body)
	if err != nil {
		return nil, err
	}
	return storedBody(p), nil
}

// PlainJSON is JSON without the words that only Python's has.
func PlainJSON(body []byte) []byte { return plainJSON(body) }

// CleanPath is a path of a client, if it stays below its folder.
func CleanPath(path string) (string, bool) { return cleanPath(path) }

// ShownFrame is a host's message as clients receive it: with the flag for previews with metadata, and without.
func ShownFrame(isBinary bool, data []byte, prompt string, id job.ID) [][]byte {
	if isBinary {
		f := shownBinary(data, prompt, id)
		return [][]byte{f.data, f.plain}
	}
	text, ok := readText(data)
	if !ok {
		return nil
	}
	if text.Data.ID != prompt {
		return nil
	}
	return [][]byte{shownText(data, &text, id).data}
}

// ClosedBeforeItIsHandled is the code with which a socket is closed that has come to a hub, when the hub closes before it has handled it.
func ClosedBeforeItIsHandled() int {
	h := newHub(newRows(&queue.Queue{}, "acme"), nil, nil)
	s := &socket{wake: make(chan struct{}, 1), metrics: newMetrics()}
	h.open(s)
	h.close()
	_, code := s.take()
	return code
}

// EarlyFrames brings frames of jobs that have no row yet, and gives how many bytes of them are kept, and of which jobs.
func EarlyFrames(frames []queue.Frame) (kept int, jobs []job.ID) {
	h := newHub(newRows(&queue.Queue{}, "acme"), nil, nil)
	for i := range frames {
		h.relay(&frames[i])
	}
	for id, early := range h.early {
		jobs = append(jobs, id)
		for i := range early {
			kept += len(early[i].Data)
		}
	}
	return kept, jobs
}

// DecodesBeside reports whether a further picture is decoded while n are, when its client waits no longer.
func DecodesBeside(n int) (further bool) {
	g := &Gateway{decoding: make(chan struct{}, mostDecoded)}
	begun, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			_, _ = g.decoded(context.Background(), func() ([]byte, error) {
				begun <- struct{}{}
				<-release
				return nil, nil
			})
		})
		<-begun
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, _ = g.decoded(gone, func() ([]byte, error) {
		further = true
		return nil, nil
	})
	close(release)
	all.Wait()
	return further
}

// HideOneEachHour hides n jobs, one each hour, where events are kept for an age, and gives how many are remembered at the end, and whether
// the last one is hidden.
func HideOneEachHour(n int, age time.Duration) (remembered int, hides bool) {
	h := newHidden()
	var last job.ID
	for i := range n {
		last = job.ID(fmt.Sprintf("job-%d", i))
		for range 2 { // by the request, and by the watch
			h.add(queue.Hidden{Tenant: "acme", Job: last}, time.Unix(0, 0).Add(time.Duration(i)*time.Hour), age)
		}
	}
	return len(h.jobs["acme"]), h.hides("acme", &Row{Job: last, State: job.Completed, Mark: 1})
}

// Pieces answers [1,2,3] value by value, and fails at one of them; 0: at none.
func Pieces(failsAt int) (body string, err error) {
	w := httptest.NewRecorder()
	p := pieces{w: w, log: slog.New(slog.DiscardHandler)}
	p.text("[")
	for n := 1; n <= 3; n++ {
		if n == failsAt {
			err = context.DeadlineExceeded
			break
		}
		if n > 1 {
			p.text(",")
		}
		p.value(n)
	}
	err = p.end("]", err)
	return w.Body.String(), err
}

// EndsBeforeItsSockets reports whether a gateway ends while a websocket is being closed.
func EndsBeforeItsSockets() bool {
	h := newHub(newRows(&queue.Queue{}, "acme"), nil, nil)
	g := &Gateway{tenants: map[job.Tenant]*tenant{"acme": {hub: h}}}
	s := &socket{wake: make(chan struct{}, 1), metrics: newMetrics()}
	h.open(s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.endSockets(context.Background())
	}()
	<-s.wake // it is to be closed
	early := false
	select {
	case <-ended:
		early = true
	default:
	}
	h.leave(s)
	<-ended
	return early
}

// FollowRows follows the jobs of a tenant until ctx ends.
func FollowRows(ctx context.Context, q *queue.Queue, tenant job.Tenant) *Rows {
	r := newRows(q, tenant)
	go r.follow(ctx, slog.New(slog.DiscardHandler))
	return r
}

// FindForgotten finds a job that is listed no longer, as when many others have ended after it.
func FindForgotten(ctx context.Context, q *queue.Queue, r *Rows, id job.ID) (*Row, error) {
	r.mu.Lock()
	delete(r.ended, id)
	r.order = slices.DeleteFunc(r.order, func(other job.ID) bool { return other == id })
	r.mu.Unlock()
	return (&Gateway{q: q}).find(ctx, &tenant{name: r.tenant, rows: r}, id)
}

// States are the states of all rows, after a refresh.
func States(ctx context.Context, t *testing.T, r *Rows) []string {
	t.Helper()
	if err := r.refresh(ctx); err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, row := range r.Rows() {
		text := cmp.Or(string(row.State), "stored")
		if row.Begun() {
			text += fmt.Sprintf(" %d begun", row.Attempt)
		}
		if row.Ended() {
			text += " ended"
		}
		states = append(states, text)
	}
	return states
}

// KeyInPath takes a key off the path of an address.
func KeyInPath(u *url.URL) (key, rest string, found bool) { return keyInPath(u) }

// ShownRecord is what a host's record of a completed job becomes: the outputs as clients see them, and the status; false when it is no
// record.
func ShownRecord(stored []byte, id job.ID) (shown []byte, ok bool) {
	host := readRecord(stored, id, "")
	if host == nil {
		return nil, false
	}
	rec := record{Outputs: map[string]json.RawMessage{}, Status: endStatus(&Row{Job: id, State: job.Completed, Attempt: 1}, host)}
	for node, output := range host.Outputs {
		rec.Outputs[node] = shownOutput(id, output)
	}
	return encode(rec), true
}

// PlaceOf reads a cursor of the Comfy API v2 and gives it as it is written.
func PlaceOf(cursor string) (again string, err error) {
	p, err := placeOf(cursor)
	if err != nil {
		return "", err
	}
	return p.cursor(), nil
}

// Answered is a question about a workflow after the fleet has said of one that a host may run it.
type Answered struct {
	Tenant                      job.Tenant
	Hash                        workflow.Hash
	Later                       time.Duration
	ChangedBefore, ChangedAfter bool // a host said something new before the answer came, or after it
}

// KnownRunnable reports whether the fleet need not be asked.
func KnownRunnable(tenant job.Tenant, hash workflow.Hash, then Answered, now time.Time) bool {
	a := newKnownRunnable()
	c := newCatalogs(nil, a.forget)
	_, changes := a.runnable(runnableKey{tenant, hash}, now)
	if then.ChangedBefore {
		c.host(queue.Change[queue.Catalog]{})
	}
	a.put(runnableKey{tenant, hash}, now, changes)
	if then.ChangedAfter {
		c.grant(queue.Change[queue.HostGrant]{})
	}
	known, _ := a.runnable(runnableKey{then.Tenant, then.Hash}, now.Add(then.Later))
	return known
}

// ForgetEnded has rows list no job that has ended.
func ForgetEnded(r *Rows) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.ended)
	r.order = nil
}

// Age makes the jobs of rows that have no event older.
func Age(r *Rows, by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Time{}
	for _, row := range r.open {
		row.Created = row.Created.Add(-by)
	}
}

// DeviceType is the type that a device has in /system_stats.
func DeviceType(name string) string { return deviceType(name) }

// CountedRoutes are the patterns of both APIs, and the routes under which their requests are counted.
func CountedRoutes() map[string]string {
	g := &Gateway{metrics: newMetrics()}
	counted := map[string]string{"GET /": routeOf("/")}
	for pattern := range g.comfyRoutes() {
		counted[pattern] = routeOf(pattern)
	}
	for pattern := range g.v2Routes() {
		_, path, _ := strings.Cut(pattern, " ")
		counted[pattern] = routeOfV2(path)
	}
	return counted
}

// WithUploads is the definition of a class with uploads among its choices.
func WithUploads(def string, names ...string) string { return string(withUploads([]byte(def), names)) }

// Merges has hosts describe themselves by the names of the classes that they have, and gives what a tenant receives.
type Merges struct {
	c *catalogs
	v *view
}

// NewMerges has nothing to merge.
func NewMerges() *Merges { return &Merges{c: newCatalogs(nil, func() {})} }

// Host has a host describe itself at a time.
func (m *Merges) Host(name, class string, at time.Time) {
	m.c.infos.mu.Lock()
	m.c.infos.kept[class] = cached[[]classDef]{value: []classDef{{class, []byte("{}")}}}
	m.c.infos.mu.Unlock()
	m.HostOfKnown(name, class, at)
}

// HostOfKnown is Host with a class that was described before.
func (m *Merges) HostOfKnown(name, class string, at time.Time) {
	m.c.host(queue.Change[queue.Catalog]{Phase: queue.Put, Key: name, Value: queue.Catalog{Host: name, Blobs: map[string]string{objectInfoRoute: class}, Time: at}})
}

// While has nothing be read meanwhile, so that no merge ends.
func (m *Merges) While(do func()) {
	m.c.infos.mu.Lock()
	defer m.c.infos.mu.Unlock()
	do()
}

// Ask is an object_info of a tenant, and how it was found.
func (m *Merges) Ask(ctx context.Context) (body, found string, err error) {
	if m.v, found, err = m.c.merged(ctx, "acme"); err != nil {
		return "", found, err
	}
	return string(m.v.info.body), found, nil
}

// End waits for all merges.
func (m *Merges) End() { m.c.merging.Wait() }
