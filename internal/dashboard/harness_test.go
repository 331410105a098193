package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// testTimeout is the longest wait for what a test expects.
const testTimeout = 60 * time.Second

var shared *natsserver.Server // of all tests; each has its own tenants

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(suite{m},
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"), // as in test/integration
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

// suite starts the NATS of all tests.
type suite struct{ *testing.M }

func (s suite) Run() int {
	dir := must(os.MkdirTemp("", "comfyherd-dashboard-"))
	defer func() { _ = os.RemoveAll(dir) }()
	shared = must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { _ = shared.Close() }()
	return s.M.Run()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func connect(t *testing.T) *queue.Queue {
	t.Helper()
	nc := must(nats.Connect(shared.URL()))
	q := must(queue.Open(t.Context(), nc, queue.Config{}))
	t.Cleanup(func() {
		q.Close()
		nc.Close()
	})
	return q
}

// site is a dashboard, and a client that sends it requests.
type site struct {
	t   *testing.T
	q   *queue.Queue
	d   *dashboard.Dashboard
	url string
}

func serve(t *testing.T, cfg dashboard.Config) *site {
	t.Helper()
	s := &site{t: t, q: connect(t)}
	s.d = must(dashboard.New(s.q, cfg))
	server := httptest.NewServer(s.d.Handler())
	s.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		s.d.Close()
	})
	return s
}

// reply is an answer with its body read.
type reply struct {
	code   int
	header http.Header
	body   string
}

// ask sends a request; with a function that changes it first.
func (s *site) ask(method, path, body string, change func(*http.Request)) reply {
	s.t.Helper()
	r := must(http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body)))
	if change != nil {
		change(r)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func bearer(secret string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
}

// message is one message of a stream.
type message struct {
	name, id string
	data     struct {
		Sequence uint64 `json:"sequence"`
		Resumed  bool   `json:"resumed"`
		Events   []struct {
			Sequence uint64 `json:"sequence"`
			Of       string `json:"of"`
			Kind     string `json:"kind"`
			Event    struct {
				Tenant job.Tenant `json:"tenant"`
				Job    job.ID     `json:"job"`
			} `json:"event"`
		} `json:"events"`
		Jobs []struct {
			Tenant   job.Tenant `json:"tenant"`
			Job      job.ID     `json:"job"`
			Previews int        `json:"previews"`
		} `json:"jobs"`
	}
}

// stream is an open stream of a viewer.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	stop  func()
}

// follow opens a stream behind a sequence; empty: from now on.
func (s *site) follow(after string, change func(*http.Request)) *stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testTimeout)
	r := must(http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/live", http.NoBody))
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("the stream was answered with %s", resp.Status)
	}
	stop := func() {
		cancel()
		_ = resp.Body.Close()
	}
	s.t.Cleanup(stop)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	return &stream{s.t, lines, stop}
}

// next gives the next message.
func (st *stream) next() message {
	st.t.Helper()
	var m message
	for st.lines.Scan() {
		field, value, _ := strings.Cut(st.lines.Text(), ": ")
		switch field {
		case "id":
			m.id = value
		case "event":
			m.name = value
		case "data":
			if err := json.Unmarshal([]byte(value), &m.data); err != nil {
				st.t.Fatalf("%s: %v", value, err)
			}
		case "":
			if m.name != "" {
				return m
			}
		}
	}
	st.t.Fatalf("the stream has ended: %v", st.lines.Err())
	return m
}

// jobs reads events until n jobs of a tenant were named, and gives their ids and the id of the last message.
func (st *stream) jobs(tenant job.Tenant, n int) (ids []string, last string) {
	st.t.Helper()
	for len(ids) < n {
		m := st.next()
		if m.id != "" {
			last = m.id
		}
		for _, e := range m.data.Events {
			if e.Of == "jobs" && e.Event.Tenant == tenant {
				ids = append(ids, string(e.Event.Job))
			}
		}
	}
	return ids, last
}

// tell stores the event queued of jobs of a tenant, as a dispatcher does, and gives the sequence of the last.
func (s *site) tell(tenant job.Tenant, ids ...string) (last uint64) {
	s.t.Helper()
	for _, id := range ids {
		e := job.Event{EventKind: job.Queued, Job: job.ID(id), Tenant: tenant, Time: time.Now()}
		var err error
		if last, err = s.q.Append(s.t.Context(), &e, 0, "test", ""); err != nil {
			s.t.Fatal(err)
		}
	}
	return last
}

// answers serves calls in place of a dispatcher until the test ends. All tests share one NATS, so the calls are those of a tenant.
func (s *site) answers(calls map[string]queue.Endpoint, tenants map[string]queue.TenantEndpoint) {
	s.t.Helper()
	q := connect(s.t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	served := make(chan error, 1)
	go func() { served <- q.ServeAPI(ctx, queue.API{Version: "1.0.0", Calls: calls, TenantCalls: tenants}) }()
	s.t.Cleanup(func() {
		cancel()
		<-served
	})
	s.eventually("the calls are served", func() bool {
		for name := range calls {
			if s.ask(http.MethodPost, "/api/v1/"+name, `{"probe":true}`, nil).code == http.StatusServiceUnavailable {
				return false
			}
		}
		return true
	})
	nc := must(nats.Connect(shared.URL()))
	defer nc.Close()
	for name := range tenants {
		s.eventually("the call "+name+" of tenants is served", func() bool {
			_, err := nc.Request(names.TenantPrefix+"probes."+name, []byte("no JSON, so the call is not made"), testTimeout)
			return !errors.Is(err, nats.ErrNoResponders)
		})
	}
}

func (s *site) eventually(what string, is func() bool) {
	s.t.Helper()
	over, tick := time.NewTimer(testTimeout), time.NewTicker(10*time.Millisecond)
	defer over.Stop()
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-over.C:
			s.t.Fatalf("not within %s: %s", testTimeout, what)
		}
	}
}

func ids(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return all
}
