// Service is an image service for several customers on a comfyherd fleet: a template to copy. Every customer is a tenant,
// so that the fleet keeps their jobs, files and shares apart.
//
//	POST /v1/images               {"prompt":"a cat","seed":7}; a repeated Idempotency-Key gives the same image
//	GET  /v1/images/{id}          state, place in the queue, files
//	GET  /v1/images/{id}/events   the same as server-sent events until it has ended
//	GET  /v1/files/{name}         the bytes of a file
//	GET  /v1/usage                what the customer has used, and what failed
//
// A customer sends its key as "Authorization: Bearer KEY". The service keeps nothing of its own: after a restart it counts
// the usage again from the events that NATS stores (72 h by default), and any number of services may run side by side.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// service is what the command line says, and what is read and connected by it.
type service struct {
	nats, creds, customersFile, workflowFile, alertURL string
	alertAfter                                         int

	workflow  []byte
	customers map[string]*customer // by key
}

func main() {
	var s service
	listen := flag.String("listen", "127.0.0.1:8000", "address to serve on")
	flag.StringVar(&s.nats, "nats", nats.DefaultURL, "URL of NATS")
	flag.StringVar(&s.creds, "creds", "", "folder with a tenant-NAME.creds for each customer, in a closed fleet")
	flag.StringVar(&s.customersFile, "customers", "customers.json", `file with the key of each customer, as {"acme":"KEY"}`)
	flag.StringVar(&s.workflowFile, "workflow", "workflow_api.json", "workflow in ComfyUI's API format, with $prompt as a text and $seed as a seed")
	flag.StringVar(&s.alertURL, "alert-url", "", "where alerts are posted as JSON, beside the log")
	flag.IntVar(&s.alertAfter, "alert-after", 5, "dead jobs of a customer, with no completed one between them, that raise an alert")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *listen)
	if err == nil {
		err = s.run(ctx, listener)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Then streams of events end, and other requests have ten seconds to finish.
func (s *service) run(ctx context.Context, listener net.Listener) (err error) {
	defer listener.Close()
	if s.workflow, err = os.ReadFile(s.workflowFile); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	var counting sync.WaitGroup
	for _, c := range s.customers {
		counting.Go(func() {
			defer c.conn.Close()
			c.count(work, s)
		})
	}
	defer counting.Wait()
	defer end()
	server := &http.Server{Handler: s.routes(ctx), ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		finish, cancel := context.WithTimeout(work, 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(finish)
	})()
	slog.Info("serving", "address", listener.Addr().String(), "customers", len(s.customers))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// connect makes the customers of the file, each with a connection of its own.
func (s *service) connect() error {
	var keys map[jetstream.Tenant]string
	body, err := os.ReadFile(s.customersFile)
	if err == nil {
		err = json.Unmarshal(body, &keys)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.customersFile, err)
	}
	s.customers = map[string]*customer{}
	for name, key := range keys {
		if len(key) < 12 || s.customers[key] != nil {
			return fmt.Errorf("%s: %s needs a key of its own with at least 12 characters", s.customersFile, name)
		}
		options := []nats.Option{nats.Name("image service for " + string(name)), nats.MaxReconnects(-1)}
		if s.creds != "" {
			options = append(options, nats.UserCredentials(fmt.Sprintf("%s/tenant-%s.creds", s.creds, name)))
		}
		nc, err := nats.Connect(s.nats, options...)
		if err != nil {
			return fmt.Errorf("connect as %s to %s: %w", name, s.nats, err)
		}
		s.customers[key] = &customer{name: name, conn: nc, herd: jetstream.NewClient(nc, name), usage: usage{Failed: map[string]int{}}}
	}
	return nil
}

// customer is one who may ask for images. It is a tenant of the fleet.
type customer struct {
	name jetstream.Tenant
	conn *nats.Conn
	herd *jetstream.Client

	mu    sync.Mutex // guards what was counted
	usage usage
	dead  int // jobs since the last completed one
}

// usage is what a customer has used, as far as the fleet's events go back.
type usage struct {
	Images  int            `json:"images"`
	Bytes   int64          `json:"bytes"`
	Seconds float64        `json:"gpu_seconds"` // of completed images
	Failed  map[string]int `json:"failed"`      // dead jobs by the kind of their last failure, or by the reason
}

// routes are the paths of the service. Streams of events end with stopping.
func (s *service) routes(stopping context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/images", s.as(s.create))
	mux.HandleFunc("GET /v1/images/{id}", s.as(show))
	mux.HandleFunc("GET /v1/images/{id}/events", s.as(events(stopping)))
	mux.HandleFunc("GET /v1/files/{name...}", s.as(file))
	mux.HandleFunc("GET /v1/usage", s.as(used))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range s.customers {
			if !c.conn.IsConnected() {
				http.Error(w, "no connection to NATS", http.StatusServiceUnavailable)
				return
			}
		}
	})
	return mux
}

// handler answers a request of a customer.
type handler func(http.ResponseWriter, *http.Request, *customer) error

// as finds the customer by its key, and turns an error into an answer. The fleet's own troubles are told in the log only.
func (s *service) as(do handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		c := s.customers[key]
		if c == nil {
			_ = answer(w, http.StatusUnauthorized, map[string]string{"error": "send your key as Authorization: Bearer KEY"})
			return
		}
		err := do(w, r, c)
		if err == nil || r.Context().Err() != nil {
			return
		}
		text := err.Error()
		code, _ := strconv.Atoi(jetstream.Code(err))
		switch {
		case errors.Is(err, jetstream.ErrLaneFull), code == http.StatusTooManyRequests:
			code, text = http.StatusTooManyRequests, "too many images wait; try again later"
		case code >= http.StatusInternalServerError:
			slog.Error("request failed", "customer", c.name, "path", r.URL.Path, "error", err)
			code, text = http.StatusBadGateway, "the fleet does not answer; try again later"
		}
		_ = answer(w, code, map[string]string{"error": text})
	}
}

func answer(w http.ResponseWriter, code int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(body)
}

// create submits an image. With an Idempotency-Key the same request may be sent again: an id runs once.
func (s *service) create(w http.ResponseWriter, r *http.Request, c *customer) error {
	wish := struct {
		Prompt string
		Seed   json.Number
	}{Seed: "-1"} // which the fleet replaces by a random one
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wish); err != nil || wish.Prompt == "" {
		return &jetstream.BadRequest{Message: `the body must be JSON such as {"prompt":"a cat","seed":7}`}
	}
	prompt, _ := json.Marshal(wish.Prompt) // a text can always be encoded
	workflow := bytes.ReplaceAll(bytes.ReplaceAll(s.workflow, []byte(`"$seed"`), []byte(wish.Seed)), []byte(`"$prompt"`), prompt)
	receipt, err := c.herd.Submit(r.Context(), 5, jetstream.Spec{ID: jetstream.ID(r.Header.Get("Idempotency-Key")), Workflow: workflow})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	made := image{ID: receipt.Job, State: "stored"}
	for e, err := range c.herd.FollowMany(ctx, []jetstream.ID{receipt.Job}) { // until a dispatcher has it, so that the next request finds it
		if err == nil {
			made = imageOf(&e)
		}
		break
	}
	return answer(w, http.StatusAccepted, made)
}

// image is what a customer sees of a job.
type image struct {
	ID       jetstream.ID `json:"id"`
	State    string       `json:"state"`
	Position int          `json:"position,omitempty"`
	Files    []string     `json:"files,omitempty"`
	Error    string       `json:"error,omitempty"`
}

func imageOf(e *jetstream.Event) image {
	i := image{ID: e.Job, State: string(e.EventKind)}
	for _, o := range e.Outputs {
		i.Files = append(i.Files, "/v1/files/"+o.Object)
	}
	if i.State == "dead" {
		i.Error = e.Reason + ": " + e.Message
	}
	return i
}

func show(w http.ResponseWriter, r *http.Request, c *customer) error {
	status, err := c.herd.Status(r.Context(), jetstream.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	i := imageOf(&status.Event)
	i.Position = status.Position
	return answer(w, http.StatusOK, i)
}

// events sends each event of an image until it has ended. A browser's EventSource asks again when a proxy ends a quiet stream.
func events(stopping context.Context) handler {
	return func(w http.ResponseWriter, r *http.Request, c *customer) error {
		ctx, cancel := context.WithCancel(r.Context())
		defer context.AfterFunc(stopping, cancel)()
		id := jetstream.ID(r.PathValue("id"))
		if _, err := c.herd.Status(ctx, id); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for e, err := range c.herd.FollowMany(ctx, []jetstream.ID{id}) {
			body, _ := json.Marshal(imageOf(&e))
			if err != nil {
				break
			}
			fmt.Fprintf(w, "data: %s\n\n", body)
			if http.NewResponseController(w).Flush() != nil {
				break
			}
		}
		return nil
	}
}

// file streams a file of a completed image.
func file(w http.ResponseWriter, r *http.Request, c *customer) error {
	body, file, err := c.herd.OpenFile(r.Context(), r.PathValue("name"), 0)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", file.ContentType)
	w.Header().Set("Content-Length", strconv.FormatInt(file.Size, 10)) // with which the customer sees that a file was cut off
	w.Header().Set("Content-Security-Policy", "sandbox")
	_, _ = io.Copy(w, body)
	return nil
}

// used tells what the customer has used.
func used(w http.ResponseWriter, _ *http.Request, c *customer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return answer(w, http.StatusOK, c.usage)
}

// count adds every stored event, and then each one as it is stored, until ctx ends. As long as no dispatcher answers it tries again.
func (c *customer) count(ctx context.Context, s *service) {
	for after := uint64(0); ctx.Err() == nil; {
		for note, err := range c.herd.Follow(ctx, after) {
			if err != nil {
				break
			}
			after = note.Sequence
			event, _ := note.Event()
			if c.add(&event) == s.alertAfter && c.herd.Now().Sub(note.Time) < time.Minute { // not once more after a restart
				c.alert(ctx, s, &event)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// add counts an event, and gives the number of dead jobs since the last completed one when this is one of them.
func (c *customer) add(e *jetstream.Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.EventKind {
	case jetstream.JobCompleted:
		c.dead = 0
		c.usage.Images++
		c.usage.Seconds += time.Duration(e.RanFor).Seconds()
		for _, o := range e.Outputs {
			c.usage.Bytes += o.Size
		}
	case jetstream.JobDead:
		c.dead++
		c.usage.Failed[cmp.Or(string(e.Kind), e.Reason)]++
		return c.dead
	}
	return 0
}

// alert writes to the log that a customer's jobs die, and posts it where a chat or a pager takes it.
func (c *customer) alert(ctx context.Context, s *service, e *jetstream.Event) {
	slog.Error("jobs of a customer die", "customer", c.name, "dead", s.alertAfter, "last", e.Job, "reason", e.Reason, "message", e.Message)
	if s.alertURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, _ := json.Marshal(map[string]any{"customer": c.name, "dead": s.alertAfter, "job": e.Job, "reason": e.Reason, "message": e.Message})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.alertURL, bytes.NewReader(body))
	if err == nil {
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(r); err == nil {
			err = answer.Body.Close()
		}
	}
	if err != nil {
		slog.Error("the alert was not posted", "url", s.alertURL, "error", err)
	}
}
