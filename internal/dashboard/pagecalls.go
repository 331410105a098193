package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The calls of the page that no dispatcher answers, besides pictures: it reads NATS itself for them.
const (
	thumbsCall     = "thumbs"      // the small pictures of completed jobs
	natsCall       = "nats"        // the connection to NATS, and how far the dispatchers' consumers have come
	capabilityCall = "capability"  // what a host can run
	hostEventsCall = "host.events" // what happened to a host and its blocks
)

// answersItself gives the function that answers one of these calls; nil when dispatchers answer the call.
func (d *Dashboard) answersItself(name string) func(context.Context, Viewer, map[string]json.RawMessage) (json.RawMessage, error) {
	switch name {
	case picturesCall:
		return d.pictures
	case thumbsCall:
		return d.thumbsOf
	case natsCall:
		return d.nats
	case capabilityCall:
		return d.capability
	case hostEventsCall:
		return d.hostEvents
	}
	return nil
}

// consumer is how far a consumer has come.
type consumer struct {
	Name    string `json:"consumer"`
	Pending uint64 `json:"pending"` // messages that it has not delivered yet
	Unacked int    `json:"unacked"` // that it has delivered and that are not acked
}

// nats tells of this page's connection to NATS.
func (d *Dashboard) nats(ctx context.Context, _ Viewer, _ map[string]json.RawMessage) (json.RawMessage, error) {
	link := d.q.LinkState()
	took, err := d.q.RoundTrip(ctx)
	if err != nil {
		return nil, err
	}
	found, err := d.q.Consumers(ctx)
	if err != nil {
		return nil, err
	}
	consumers := make([]consumer, len(found))
	for i, c := range found {
		consumers[i] = consumer{c.Consumer, c.Pending, c.Unacked}
	}
	return json.Marshal(map[string]any{
		"url": link.URL, "server": link.Server, "cluster": link.Cluster, "version": link.Version, "reconnects": link.Reconnects,
		"round_trip": job.Duration(took), "consumers": consumers,
	})
}

const (
	hostEventsMost = 50
	hostEventsBack = 24 * time.Hour
)

// hostEvents gives the last events of a host and of its blocks, as in the stream, newest first.
func (d *Dashboard) hostEvents(ctx context.Context, _ Viewer, request map[string]json.RawMessage) (json.RawMessage, error) {
	host, err := hostOf(request)
	if err != nil {
		return nil, err
	}
	since := d.q.Now().Add(-hostEventsBack)
	var rows []row
	for _, subject := range []string{names.HostEventsPrefix + host + ".*", names.BlockEventsPrefix + host + ".>"} {
		notes, err := d.q.NewestEvents(ctx, subject, since, hostEventsMost)
		if err != nil {
			return nil, err
		}
		for i := range notes {
			r := rowOf(&notes[i])
			if r.encode(); r.body != nil {
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return int(int64(b.sequence) - int64(a.sequence)) })
	events := make([]json.RawMessage, 0, hostEventsMost)
	for _, r := range rows[:min(len(rows), hostEventsMost)] {
		events = append(events, r.body)
	}
	return json.Marshal(map[string]any{"events": events})
}

func hostOf(request map[string]json.RawMessage) (string, error) {
	var host string
	if err := json.Unmarshal(request["host"], &host); err != nil || !job.ValidHost(host) {
		return "", &jetstream.BadRequest{Message: fmt.Sprintf("host must be the name of a host, and is %.80s", strings.TrimSpace(string(request["host"])))}
	}
	return host, nil
}
