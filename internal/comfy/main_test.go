package comfy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// promptID is the id of the first prompt recorded in scenario 02.
const promptID = "eb0aeb70-e679-4c66-be39-872007c19294"

const graph = `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":68588}},` +
	`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"probe"}}}`

// testTimeout bounds every test that waits for something; it is never reached by
// a test that passes.
const testTimeout = time.Minute

// routes is a ComfyUI made of fixed answers: "GET /prompt" → handler. It has no prompts, and what else it lacks is
// answered as aiohttp answers an unknown route.
type routes map[string]http.HandlerFunc

func (r routes) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	handler := r[request.Method+" "+request.URL.Path]
	switch {
	case handler != nil:
		handler(w, request)
	case request.URL.Path == "/queue":
		says(http.StatusOK, emptyQueue)(w, request)
	case strings.HasPrefix(request.URL.Path, "/history/"):
		says(http.StatusOK, `{}`)(w, request)
	default:
		http.Error(w, "404: Not Found", http.StatusNotFound)
	}
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func accepts(id string) http.HandlerFunc {
	return says(http.StatusOK, `{"prompt_id": "`+id+`", "number": 0, "node_errors": {}}`)
}

const emptyQueue = `{"queue_running": [], "queue_pending": []}`

func serve(t *testing.T, handler http.Handler) *comfy.Host {
	t.Helper()
	return serveWith(t, handler, quick())
}

func serveWith(t *testing.T, handler http.Handler, o comfy.Options) *comfy.Host {
	t.Helper()
	server := httptest.NewServer(handler)
	host, err := comfy.New(server.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Cleanup(host.Close)
	return host
}

// quick looks often. A host counts as frozen, and a socket as silent, only after a time that no test waits for: a machine
// that stands still for some seconds must not look like that.
func quick() comfy.Options {
	return comfy.Options{FreezeTimeout: testTimeout, PollInterval: 50 * time.Millisecond, PingInterval: testTimeout, QuietTime: 300 * time.Millisecond, ProcessReader: blind{}}
}

// blind sees no process.
type blind struct{}

func (blind) Read(context.Context) (comfy.Snapshot, bool) { return comfy.Snapshot{}, false }

func open(t *testing.T, address string) *comfy.Host {
	t.Helper()
	host, err := comfy.New(address, quick())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return host
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// recorded reads a file of testdata, one JSON object a line.
func recorded[T any](t testing.TB, name string) []T {
	t.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one T
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// quote writes s as JSON.
func quote(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
