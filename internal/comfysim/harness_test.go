package comfysim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = time.Minute

// host is a simulated host and a client that leaves nothing behind.
type host struct {
	*comfysim.Server
	t      *testing.T
	client *http.Client
}

func start(t *testing.T, cfg comfysim.Config) *host {
	t.Helper()
	s, err := comfysim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return &host{Server: s, t: t, client: &http.Client{Transport: transport, Timeout: testTimeout}}
}

// do sends a request and returns status and body.
func (h *host) do(method, path, body string) (int, string) {
	h.t.Helper()
	code, text, err := h.try(method, path, body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return code, text
}

func (h *host) try(method, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, h.URL()+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := h.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// risk posts a graph to a host that may die before it answers.
func (h *host) risk(graph, client string) {
	h.t.Helper()
	_, _, _ = h.try("POST", "/prompt", fmt.Sprintf(`{"prompt": %s, "client_id": %q}`, graph, client))
}

// submit posts a graph that must be accepted and returns its prompt id.
func (h *host) submit(graph, client string) string {
	h.t.Helper()
	body := fmt.Sprintf(`{"prompt": %s}`, graph)
	if client != "" {
		body = fmt.Sprintf(`{"prompt": %s, "client_id": %q}`, graph, client)
	}
	code, text := h.do("POST", "/prompt", body)
	if code != http.StatusOK {
		h.t.Fatalf("POST /prompt = %d %s", code, text)
	}
	var answer struct {
		ID string `json:"prompt_id"`
	}
	mustDecode(h.t, text, &answer)
	return answer.ID
}

// ended waits until n runs have ended.
func (h *host) ended(n int) []comfysim.Run {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	runs, err := h.WaitEnded(ctx, n)
	if err != nil {
		h.t.Fatal(err)
	}
	return runs
}

// post submits a prompt and waits for no answer; a call of giveUp ends the request.
func (h *host) post(body string) (giveUp func(), answer <-chan error) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL()+"/prompt", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Close = true
	got := make(chan error, 1)
	go func() {
		res, err := h.client.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		got <- err
	}()
	return cancel, got
}

// until waits for a condition.
func (h *host) until(what string, done func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := h.Wait(ctx, done); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// history is one entry of GET /history/{id}.
type history struct {
	Outputs map[string]map[string][]map[string]any
	Status  struct {
		Str       string `json:"status_str"`
		Completed bool
		Messages  [][]json.RawMessage
	}
}

func (h *host) history(id string) history {
	h.t.Helper()
	code, text := h.do("GET", "/history/"+id, "")
	if code != http.StatusOK {
		h.t.Fatalf("GET /history = %d %s", code, text)
	}
	var all map[string]history
	mustDecode(h.t, text, &all)
	return all[id]
}

// listener is a websocket whose text messages are read one by one.
type listener struct {
	t    *testing.T
	conn *websocket.Conn
}

// event is one message; binary frames have the type "binary:<event number>".
type event struct {
	Type string
	Data map[string]any
}

func (h *host) listen(client string) *listener {
	h.t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(h.URL(), "http")+"/ws?clientId="+client, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	l := &listener{h.t, conn}
	h.t.Cleanup(l.close)
	return l
}

func (l *listener) close() { _ = l.conn.Close() }

func (l *listener) next() (event, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(testTimeout))
	kind, data, err := l.conn.ReadMessage()
	if err != nil {
		return event{}, err
	}
	if kind == websocket.BinaryMessage {
		return event{Type: fmt.Sprintf("binary:%d", data[3])}, nil
	}
	if !bytes.HasPrefix(data, []byte(`{"type":`)) { // SwarmUI looks at no more of a message
		return event{}, fmt.Errorf("a message begins with %.30q", data)
	}
	var e event
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return e, dec.Decode(&e)
}

// must reads the next message.
func (l *listener) must() event {
	l.t.Helper()
	e, err := l.next()
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

// untilEnd reads to the end marker of a run and returns what came in between, the marker included.
func (l *listener) untilEnd() []event {
	l.t.Helper()
	var all []event
	for {
		e := l.must()
		all = append(all, e)
		if e.Type == "executing" && e.Data["node"] == nil {
			return all
		}
	}
}

// words writes events the way testdata/orders.json does.
func words(events []event) []string {
	var out []string
	for _, e := range events {
		switch e.Type {
		case "status":
			info, _ := e.Data["status"].(map[string]any)
			exec, _ := info["exec_info"].(map[string]any)
			out = append(out, fmt.Sprintf("status %v", exec["queue_remaining"]))
		case "executing":
			out = append(out, fmt.Sprintf("executing %v", e.Data["node"]))
		case "execution_cached":
			out = append(out, fmt.Sprintf("execution_cached %v", e.Data["nodes"]))
		case "progress_state":
			nodes, _ := e.Data["nodes"].(map[string]any)
			states := map[string]string{}
			for id, n := range nodes {
				line, _ := n.(map[string]any)
				states[id] = fmt.Sprintf("%v/%v %v", line["value"], line["max"], line["state"])
			}
			out = append(out, fmt.Sprintf("progress_state %v", states))
		case "progress":
			out = append(out, fmt.Sprintf("progress %v/%v", e.Data["value"], e.Data["max"]))
		default:
			out = append(out, e.Type)
		}
	}
	return out
}

func mustDecode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
}
