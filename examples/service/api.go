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
	workflow  []byte
	customers map[string]*customer // by key
}

// routes are the paths of the service. Streams of events end with stopping.
func (a *api) routes(stopping context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/images", a.as(a.create))
	mux.HandleFunc("GET /v1/images/{id}", a.as(show))
	mux.HandleFunc("GET /v1/images/{id}/events", a.as(func(w http.ResponseWriter, r *http.Request, c *customer) error {
		ctx, cancel := context.WithCancel(r.Context())
		defer context.AfterFunc(stopping, cancel)()
		return events(w, r.WithContext(ctx), c)
	}))
	mux.HandleFunc("GET /v1/files/{name...}", a.as(file))
	mux.HandleFunc("GET /v1/usage", a.as(func(w http.ResponseWriter, _ *http.Request, c *customer) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		return answer(w, http.StatusOK, c.usage)
	}))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range a.customers {
			if !c.conn.IsConnected() {
				http.Error(w, "no connection to NATS", http.StatusServiceUnavailable)
				return
			}
		}
	})
	return mux
}

// as finds the customer by its key, and turns an error into an answer. The fleet's own troubles are told in the log only.
func (a *api) as(do func(http.ResponseWriter, *http.Request, *customer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		c := a.customers[key]
		if c == nil {
			_ = answer(w, http.StatusUnauthorized, problem{"send your key as Authorization: Bearer KEY"})
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
		_ = answer(w, code, problem{text})
	}
}

// problem is the body of an answer that reports an error.
type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, code int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(body)
}

// create submits an image. With an Idempotency-Key the same request may be sent again: an id runs once.
func (a *api) create(w http.ResponseWriter, r *http.Request, c *customer) error {
	wish := struct {
		Prompt string
		Seed   json.Number
	}{Seed: "-1"} // which the fleet replaces by a random one
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wish); err != nil || wish.Prompt == "" {
		return &jetstream.BadRequest{Message: `the body must be JSON such as {"prompt":"a cat","seed":7}`}
	}
	prompt, err := json.Marshal(wish.Prompt)
	if err != nil {
		return err
	}
	workflow := bytes.ReplaceAll(bytes.ReplaceAll(a.workflow, []byte(`"$seed"`), []byte(wish.Seed)), []byte(`"$prompt"`), prompt)
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
func events(w http.ResponseWriter, r *http.Request, c *customer) error {
	id := jetstream.ID(r.PathValue("id"))
	if _, err := c.herd.Status(r.Context(), id); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for e, err := range c.herd.FollowMany(r.Context(), []jetstream.ID{id}) {
		body, wrong := json.Marshal(imageOf(&e))
		if err != nil || wrong != nil {
			break
		}
		fmt.Fprintf(w, "data: %s\n\n", body)
		if http.NewResponseController(w).Flush() != nil {
			break
		}
	}
	return nil
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
