package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

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

// count adds every stored event, and then each one as it is stored, until ctx ends. Without a fleet it tries again.
func (c *customer) count(ctx context.Context, s settings) {
	var after uint64
	for ctx.Err() == nil {
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
	case "completed":
		c.dead = 0
		c.usage.Images++
		c.usage.Seconds += time.Duration(e.RanFor).Seconds()
		for _, o := range e.Outputs {
			c.usage.Bytes += o.Size
		}
	case "dead":
		c.dead++
		c.usage.Failed[cmp.Or(string(e.Kind), e.Reason)]++
		return c.dead
	}
	return 0
}

// alert writes to the log that a customer's jobs die, and posts it where a chat or a pager takes it.
func (c *customer) alert(ctx context.Context, s settings, e *jetstream.Event) {
	slog.Error("jobs of a customer die", "customer", c.name, "dead", s.alertAfter, "last", e.Job, "reason", e.Reason, "message", e.Message)
	if s.alertURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"customer": c.name, "dead": s.alertAfter, "job": e.Job, "reason": e.Reason, "message": e.Message})
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, s.alertURL, bytes.NewReader(body))
	}
	var answer *http.Response
	if err == nil {
		answer, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		slog.Error("the alert was not posted", "url", s.alertURL, "error", err)
		return
	}
	answer.Body.Close()
}
