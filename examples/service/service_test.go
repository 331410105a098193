package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// fleet is NATS, a dispatcher and one simulated host.
func fleet(t *testing.T, host comfysim.Config) (url string) {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	sim, err := comfysim.Start(host)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a, err := agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu-1", URL: sim.URL()}}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.New(q, dispatcher.Config{Name: "d", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, actor := range []interface {
		Run(stop, kill context.Context) error
	}{a, d} {
		running.Go(func() {
			if err := actor.Run(ctx, ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
		q.Close()
		nc.Close()
		sim.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	for ready := false; !ready; ready, _ = d.Ready() {
		if t.Context().Err() != nil {
			t.Fatal("the dispatcher is not ready")
		}
	}
	return server.URL()
}

// problem is an answer that reports an error.
type problem struct {
	Error string `json:"error"`
}

// client speaks for one customer.
type client struct {
	t         *testing.T
	base, key string
}

func (c client) do(method, path, body string, header ...string) (int, []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.StatusCode, got
}

// ask decodes an answer that must have a status.
func ask[T any](c client, want int, method, path, body string, header ...string) (got T) {
	c.t.Helper()
	code, answer := c.do(method, path, body, header...)
	if code != want {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, code, answer, want)
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		c.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
	return got
}

// serve runs the service and gives a client of each of two customers. stop ends it and gives its error.
func serve(t *testing.T, s service) (acme, bolt client, stop func() error) {
	t.Helper()
	s.workflowFile, s.customersFile = cmp.Or(s.workflowFile, "workflow_api.json"), filepath.Join(t.TempDir(), "customers.json")
	if err := os.WriteFile(s.customersFile, []byte(`{"acme":"the-key-of-acme","bolt":"the-key-of-bolt"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, listener) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	base := "http://" + listener.Addr().String()
	return client{t, base, "the-key-of-acme"}, client{t, base, "the-key-of-bolt"}, stop
}

// until reads an image's events to their end.
func (c client) until(id string) (states []string, last image) {
	c.t.Helper()
	code, body := c.do(http.MethodGet, "/v1/images/"+id+"/events", "")
	if code != http.StatusOK {
		c.t.Fatalf("events of %s: %d %s", id, code, body)
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
			last = image{}
			if err := json.Unmarshal([]byte(data), &last); err != nil {
				c.t.Fatal(err)
			}
			if last.State != "waiting" { // as long as no host is there yet
				states = append(states, last.State)
			}
		}
	}
	return states, last
}

var models = map[string][]string{"checkpoints": {"sd_xl_base_1.0.safetensors"}}

func TestAnImageIsMadeFetchedAndCountedForItsCustomerAlone(t *testing.T) {
	t.Parallel()
	acme, bolt, _ := serve(t, service{nats: fleet(t, comfysim.Config{Models: models}), alertAfter: 5})

	made := ask[image](acme, http.StatusAccepted, "POST", "/v1/images", `{"prompt":"a \"cat\"","seed":7}`, "Idempotency-Key", "cat-1")
	if made.ID != "cat-1" {
		t.Errorf("the image's id is %s, want that of the Idempotency-Key", made.ID)
	}
	states, last := acme.until("cat-1")
	if want := []string{"queued", "started", "completed"}; !gocmp.Equal(states, want) {
		t.Errorf("events: %s", gocmp.Diff(want, states))
	}
	if want := []string{"/v1/files/acme/cat-1/7/image_00001_.png"}; !gocmp.Equal(last.Files, want) {
		t.Fatalf("files: %s", gocmp.Diff(want, last.Files))
	}
	if code, png := acme.do(http.MethodGet, last.Files[0], ""); code != http.StatusOK || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("the file: %d, %d bytes that are no PNG", code, len(png))
	}
	ask[image](acme, http.StatusAccepted, "POST", "/v1/images", `{"prompt":"a \"cat\"","seed":7}`, "Idempotency-Key", "cat-1")

	for path, want := range map[string]int{"/v1/images/cat-1": 404, "/v1/images/cat-1/events": 404, last.Files[0]: 400} {
		ask[problem](bolt, want, "GET", path, "")
	}
	var used usage
	for used.Images == 0 {
		used = ask[usage](acme, http.StatusOK, "GET", "/v1/usage", "")
	}
	if used.Images != 1 || used.Bytes == 0 {
		t.Errorf("acme has used %+v, want one image, although it was asked for twice", used)
	}
	if used := ask[usage](bolt, http.StatusOK, "GET", "/v1/usage", ""); used.Images != 0 {
		t.Errorf("bolt has used %+v", used)
	}
}

func TestWhatIsWrongIsAnsweredInWords(t *testing.T) {
	t.Parallel()
	acme, _, _ := serve(t, service{nats: fleet(t, comfysim.Config{Models: models}), alertAfter: 5})
	for _, c := range []struct {
		code               int
		method, path, body string
		want               string
	}{
		{400, "POST", "/v1/images", `{`, "must be JSON"},
		{400, "POST", "/v1/images", `{"seed":1}`, "must be JSON"},
		{404, "GET", "/v1/images/nothing", "", "nothing"},
		{404, "GET", "/v1/images/nothing/events", "", "nothing"},
		{404, "GET", "/v1/files/acme/nothing/1/a.png", "", "file"},
	} {
		if got := ask[problem](acme, c.code, c.method, c.path, c.body); !strings.Contains(got.Error, c.want) {
			t.Errorf("%s %s %s: %q, want %q in it", c.method, c.path, c.body, got.Error, c.want)
		}
	}
	for _, key := range []string{"two words", "j-mine", strings.Repeat("x", 121)} {
		if got := ask[problem](acme, http.StatusBadRequest, "POST", "/v1/images", `{"prompt":"a cat"}`, "Idempotency-Key", key); !strings.Contains(got.Error, "id") {
			t.Errorf("key %q: %q", key, got.Error)
		}
	}
	stranger := client{t, acme.base, "another-key-of-nobody"}
	ask[problem](stranger, http.StatusUnauthorized, "GET", "/v1/usage", "")
	if code, _ := stranger.do("GET", "/readyz", ""); code != http.StatusOK {
		t.Errorf("readyz: %d", code)
	}
}

func TestDeadJobsRaiseOneAlert(t *testing.T) {
	t.Parallel()
	alerts := make(chan map[string]any, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var alert map[string]any
		if err := json.NewDecoder(r.Body).Decode(&alert); err != nil {
			t.Error(err)
		}
		alerts <- alert
	}))
	defer sink.Close()
	dir := t.TempDir()
	noWorkflow := filepath.Join(dir, "noworkflow.json")
	if err := os.WriteFile(noWorkflow, []byte(`{"1":{"text":"$prompt"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	acme, bolt, _ := serve(t, service{nats: fleet(t, comfysim.Config{}), workflowFile: noWorkflow, alertAfter: 2, alertURL: sink.URL})
	dies := func(c client, id string) {
		ask[image](c, http.StatusAccepted, "POST", "/v1/images", `{"prompt":"a cat"}`, "Idempotency-Key", id)
		if _, last := c.until(id); last.State != "dead" || last.Error == "" {
			t.Fatalf("%s ended as %+v", id, last)
		}
	}
	dies(acme, "one")
	dies(bolt, "one") // of another customer: it does not count here
	dies(acme, "two")
	want := map[string]any{"customer": "acme", "dead": 2.0, "job": "two", "reason": "invalid_job"}
	got := <-alerts
	for field, value := range want {
		if got[field] != value {
			t.Errorf("the alert's %s is %v, want %v", field, got[field], value)
		}
	}
	dies(acme, "three")
	for ask[usage](acme, http.StatusOK, "GET", "/v1/usage", "").Failed["invalid_workflow"] < 3 {
		if t.Context().Err() != nil {
			t.Fatal("the third was not counted")
		}
	}
	if len(alerts) > 0 {
		t.Errorf("a second alert within ten minutes: %v", <-alerts)
	}
}

func TestStoppingEndsStreamsAndLosesNoJob(t *testing.T) {
	t.Parallel()
	url := fleet(t, comfysim.Config{}) // without the model: the job waits
	acme, _, stop := serve(t, service{nats: url, alertAfter: 5})
	ask[image](acme, http.StatusAccepted, "POST", "/v1/images", `{"prompt":"a cat"}`, "Idempotency-Key", "patient")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, acme.base+"/v1/images/patient/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+acme.key)
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewReader(stream.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"queued"`) {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the stream was cut and not ended: %v", err)
	}
	again, _, _ := serve(t, service{nats: url, alertAfter: 5})
	if got := ask[image](again, http.StatusOK, "GET", "/v1/images/patient", ""); got.ID != "patient" || got.State == "dead" {
		t.Errorf("after a restart the image is %+v", got)
	}
}
