package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// api answers the customers' requests.
type api struct {
	workflow []byte
	byKey    map[string]*customer
	stopping <-chan struct{} // closed when the service stops: endless answers end
	log      *slog.Logger
}

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/images", a.as(a.create))
	mux.HandleFunc("GET /v1/images/{id}", a.as(a.show))
	mux.HandleFunc("DELETE /v1/images/{id}", a.as(a.cancel))
	mux.HandleFunc("GET /v1/images/{id}/events", a.as(a.events))
	mux.HandleFunc("GET /v1/images/{id}/files/{n}", a.as(a.file))
	mux.HandleFunc("GET /v1/usage", a.as(func(w http.ResponseWriter, _ *http.Request, c *customer) error {
		return answer(w, http.StatusOK, c.used())
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	return mux
}

// ready says whether every customer's connection to NATS stands.
func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	for _, c := range a.byKey {
		if !c.conn.IsConnected() {
			http.Error(w, "no connection to NATS", http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

// as finds the customer by its key, and turns an error into an answer.
func (a *api) as(do func(http.ResponseWriter, *http.Request, *customer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		c := a.byKey[key]
		if c == nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			_ = answer(w, http.StatusUnauthorized, problem{"send your key as Authorization: Bearer KEY"})
			return
		}
		err := do(w, r, c)
		if err == nil || r.Context().Err() != nil {
			return
		}
		code, text := words(err)
		if code >= http.StatusInternalServerError {
			a.log.Error("request failed", "customer", c.Name, "path", r.URL.Path, "error", err)
		}
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "5")
		}
		_ = answer(w, code, problem{text})
	}
}

// problem is the body of an answer that reports an error.
type problem struct {
	Error string `json:"error"`
}

// badRequest is an error of whoever sent the request.
type badRequest string

func (b badRequest) Error() string { return string(b) }

// words gives the status and the text for an error; texts of the fleet's own troubles stay in the log.
func words(err error) (int, string) {
	var missing *jetstream.NotFound
	var wrong *jetstream.BadRequest
	var busy *jetstream.TooMany
	var stopping *jetstream.Stopping
	var mine badRequest
	switch {
	case errors.As(err, &mine):
		return http.StatusBadRequest, mine.Error()
	case errors.As(err, &missing):
		return http.StatusNotFound, "there is no such image, or it is no longer kept"
	case errors.As(err, &wrong):
		return http.StatusBadRequest, wrong.Message
	case errors.Is(err, jetstream.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "the request is too large"
	case errors.Is(err, jetstream.ErrLaneFull), errors.As(err, &busy):
		return http.StatusTooManyRequests, "too many images wait; try again later"
	case errors.As(err, &stopping), errors.Is(err, jetstream.ErrNoSpace):
		return http.StatusServiceUnavailable, "the service cannot take it now; try again later"
	}
	return http.StatusBadGateway, "the fleet does not answer; try again later"
}

func answer(w http.ResponseWriter, code int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(body)
}

// create submits an image. With an Idempotency-Key the same request may be sent again: an id runs once.
func (a *api) create(w http.ResponseWriter, r *http.Request, c *customer) error {
	var wish struct {
		Prompt string  `json:"prompt"`
		Seed   *uint64 `json:"seed"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wish); err != nil || wish.Prompt == "" {
		return badRequest(`the body must be JSON such as {"prompt":"a cat"}`)
	}
	id := jetstream.ID(r.Header.Get("Idempotency-Key"))
	if id != "" && (!id.Valid() || id.Ours()) {
		return badRequest("an Idempotency-Key has 1 to 120 of A-Z a-z 0-9 _ - and does not begin with j-")
	}
	text, err := json.Marshal(wish.Prompt)
	if err != nil {
		return badRequest(err.Error())
	}
	seed := []byte("-1") // the fleet replaces it by a random one
	if wish.Seed != nil {
		seed = strconv.AppendUint(nil, *wish.Seed, 10)
	}
	workflow := bytes.ReplaceAll(bytes.ReplaceAll(a.workflow, []byte(`"$seed"`), seed), []byte(`"$prompt"`), text)
	receipt, err := c.herd.Submit(r.Context(), c.Priority, jetstream.Spec{ID: id, Workflow: workflow})
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/images/"+string(receipt.Job))
	return answer(w, http.StatusAccepted, image{ID: receipt.Job, State: received(r.Context(), c, receipt.Job)})
}

// received waits for a dispatcher to receive a job, so that the next request about it finds it, and gives its state then.
// When no dispatcher does so within two seconds, the job is stored all the same and waits for one.
func received(ctx context.Context, c *customer, id jetstream.ID) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for e, err := range c.herd.FollowMany(ctx, []jetstream.ID{id}) {
		if err == nil {
			return string(e.EventKind)
		}
	}
	return "stored"
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
	for n, o := range e.Outputs {
		if o.Object != "" {
			i.Files = append(i.Files, fmt.Sprintf("/v1/images/%s/files/%d", e.Job, n))
		}
	}
	if i.State == "dead" {
		i.Error = e.Message
		if i.Error == "" {
			i.Error = e.Reason
		}
	}
	return i
}

func (a *api) show(w http.ResponseWriter, r *http.Request, c *customer) error {
	status, err := c.herd.Status(r.Context(), jetstream.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	i := imageOf(&status.Event)
	i.Position = status.Position
	return answer(w, http.StatusOK, i)
}

func (a *api) cancel(w http.ResponseWriter, r *http.Request, c *customer) error {
	ended, err := c.herd.Cancel(r.Context(), jetstream.CancelRequest{Job: jetstream.ID(r.PathValue("id")), By: "customer"})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, image{ID: ended.Job, State: string(ended.State)})
}

// events sends each event of an image until it has ended, and a comment every 15 s so that proxies keep the connection.
func (a *api) events(w http.ResponseWriter, r *http.Request, c *customer) error {
	id := jetstream.ID(r.PathValue("id"))
	if _, err := c.herd.Status(r.Context(), id); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	out := http.NewResponseController(w)
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for e, err := range c.herd.FollowMany(r.Context(), []jetstream.ID{id}) {
			if err != nil {
				return
			}
			body, err := json.Marshal(imageOf(&e))
			if err != nil {
				return
			}
			select {
			case lines <- fmt.Appendf(nil, "data: %s\n\n", body):
			case <-r.Context().Done():
				return
			}
		}
	}()
	beat := time.NewTicker(15 * time.Second)
	defer beat.Stop()
	for {
		line := []byte(": wait\n\n")
		select {
		case next, more := <-lines:
			if !more {
				return nil
			}
			line = next
		case <-beat.C:
		case <-a.stopping:
			return nil
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// file streams a file of a completed image.
func (a *api) file(w http.ResponseWriter, r *http.Request, c *customer) error {
	status, err := c.herd.Status(r.Context(), jetstream.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(status.Event.Outputs) || status.Event.Outputs[n].Object == "" {
		return &jetstream.NotFound{Message: "file"}
	}
	body, file, err := c.herd.OpenFile(r.Context(), status.Event.Outputs[n].Object, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", file.ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "sandbox")
	w.Header().Set("Content-Length", strconv.FormatInt(file.Size, 10))
	if _, err := io.Copy(w, body); err != nil {
		a.log.Warn("a file was cut off", "customer", c.Name, "file", file.Name, "error", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // ends this connection alone, so that the customer sees that the file is not whole
	}
	return nil
}
