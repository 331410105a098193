package main

import (
	"bytes"
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
	Name     jetstream.Tenant   `json:"-"`
	Key      string             `json:"key"`
	Priority jetstream.Priority `json:"priority"`

	conn *nats.Conn
	herd *jetstream.Client

	mu      sync.Mutex // guards all below
	usage   usage
	deaths  []time.Time // of the last ten minutes
	alerted time.Time   // when the last alert was sent
}

// usage is what a customer has used, as far as the fleet's events go back.
type usage struct {
	Images    int            `json:"images"`
	Files     int            `json:"files"`
	Bytes     int64          `json:"bytes"`
	Seconds   float64        `json:"gpu_seconds"` // of completed images
	Cancelled int            `json:"cancelled"`
	Failed    map[string]int `json:"failed"` // dead jobs by the kind of their last failure, or by the reason
}

// deathWindow is how long a dead job counts for an alert.
const deathWindow = 10 * time.Minute

// count adds every stored event, and then each one as it is stored, until ctx ends. Without a fleet it tries again.
func (c *customer) count(ctx context.Context, alert alerter) {
	var after uint64
	for ctx.Err() == nil {
		for note, err := range c.herd.Follow(ctx, after) {
			if err != nil {
				alert.log.Debug("events cannot be read yet", "customer", c.Name, "error", err)
				break
			}
			after = note.Sequence
			if event, ok := note.Event(); ok && c.add(&event, note.Time) >= max(1, alert.after) {
				alert.send(ctx, c, &event)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// add counts an event and gives the number of dead jobs for which no alert was sent, or 0.
func (c *customer) add(e *jetstream.Event, at time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.EventKind {
	case "completed":
		c.usage.Images++
		c.usage.Files += len(e.Outputs)
		c.usage.Seconds += time.Duration(e.RanFor).Seconds()
		for _, o := range e.Outputs {
			c.usage.Bytes += o.Size
		}
	case "cancelled":
		c.usage.Cancelled++
	case "dead":
		why := string(e.Kind)
		if why == "" {
			why = e.Reason
		}
		if c.usage.Failed == nil {
			c.usage.Failed = map[string]int{}
		}
		c.usage.Failed[why]++
		c.deaths = append(c.deaths, at)
		for len(c.deaths) > 0 && at.Sub(c.deaths[0]) > deathWindow {
			c.deaths = c.deaths[1:]
		}
		if now := c.herd.Now(); now.Sub(at) < deathWindow && at.Sub(c.alerted) > deathWindow {
			return len(c.deaths)
		}
	}
	return 0
}

// used is a copy of what was counted so far.
func (c *customer) used() usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage
	u.Failed = map[string]int{}
	for why, n := range c.usage.Failed {
		u.Failed[why] = n
	}
	return u
}

// alerter writes alerts to the log, and posts them where a chat or a pager takes them.
type alerter struct {
	url   string
	after int
	log   *slog.Logger
}

// send tells that jobs of a customer die; at most once in ten minutes.
func (a alerter) send(ctx context.Context, c *customer, e *jetstream.Event) {
	c.mu.Lock()
	dead := len(c.deaths)
	c.alerted = c.deaths[dead-1]
	c.mu.Unlock()
	a.log.Error("jobs of a customer die", "customer", c.Name, "dead", dead, "within", deathWindow, "last", e.Job, "kind", e.Kind, "reason", e.Reason, "message", e.Message)
	if a.url == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"customer": c.Name, "dead": dead, "job": e.Job, "kind": e.Kind, "reason": e.Reason, "message": e.Message})
	if err != nil {
		a.log.Error("the alert cannot be written", "error", err)
		return
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err == nil {
		post.Header.Set("Content-Type", "application/json")
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(post); err == nil {
			answer.Body.Close()
		}
	}
	if err != nil {
		a.log.Error("the alert was not posted", "url", a.url, "error", err)
	}
}
