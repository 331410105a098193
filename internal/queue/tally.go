package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	tallyBatch = 256       // events that are asked for at once
	tallyKept  = time.Hour // for which NATS keeps the place in the events when no dispatcher asks
)

// Tally calls tell for the events that begin or end attempts, for those that end jobs, and for those of blocks, each on one of all
// dispatchers that call Tally. It begins with the events that are stored after the first call, and after the first one that comes when
// no dispatcher has called it for an hour. Events are not acked: what a process has received and not counted when it dies is lost, as
// its counts are. failed is called with every error. It returns when ctx has ended.
func (q *Queue) Tally(ctx context.Context, tell func(jetstream.Note), failed func(error)) error {
	open := q.opening(names.EventsStream, natsjs.ConsumerConfig{
		Durable: names.TallyConsumer, DeliverPolicy: natsjs.DeliverNewPolicy, AckPolicy: natsjs.AckNonePolicy, InactiveThreshold: tallyKept,
		FilterSubjects: []string{names.StartedEvents, names.CompletedEvents, names.DeadEvents, names.CancelledEvents, names.FailedEvents, names.AllBlockEvents},
	})
	p, err := q.puller(open, func(msg *nats.Msg) {
		meta, err := msg.Metadata()
		if err != nil {
			return
		}
		tell(jetstream.Note{Subject: msg.Subject, Header: msg.Header, Body: msg.Data, Sequence: meta.Sequence.Stream, Time: meta.Timestamp})
	})
	if err != nil {
		return err
	}
	defer p.close()
	return p.pullAll(ctx, tallyBatch, failed)
}

// JobEnd says which job has ended, and how.
type JobEnd struct {
	Tenant      job.Tenant
	Job         job.ID
	How         job.EventKind
	Traceparent string
	Sequence    uint64 // of the event
}

// EndOf reads the end of a job from its event; false means that the event is another one.
func EndOf(n *jetstream.Note) (JobEnd, bool) {
	tenant, id, kind, ok := names.JobOfEvent(n.Subject)
	if !ok || !kind.Terminal() {
		return JobEnd{}, false
	}
	return JobEnd{tenant, id, kind, fieldOf(n.Body, "traceparent"), n.Sequence}, true
}

// fieldOf is a text that most events do not have, or empty when the event has none or cannot be read.
func fieldOf(event []byte, name string) string {
	if !bytes.Contains(event, []byte(`"`+name+`"`)) {
		return ""
	}
	var fields map[string]json.RawMessage
	var text string
	if json.Unmarshal(event, &fields) != nil || json.Unmarshal(fields[name], &text) != nil {
		return ""
	}
	return text
}

// LinkState is the state of the connection to NATS.
type LinkState struct {
	Connected  bool
	Reconnects uint64
	URL        string // of the server, without a password
	Server     string // its name
	Cluster    string
	Version    string // of the server
}

// LinkState says whether NATS is connected, and how often it was connected anew.
func (q *Queue) LinkState() LinkState {
	return LinkState{
		Connected: q.nc.IsConnected(), Reconnects: q.nc.Stats().Reconnects,
		URL: q.nc.ConnectedUrlRedacted(), Server: q.nc.ConnectedServerName(), Cluster: q.nc.ConnectedClusterName(), Version: q.nc.ConnectedServerVersion(),
	}
}

// RoundTrip is how long a message to NATS and back takes.
func (q *Queue) RoundTrip(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	err := q.nc.FlushWithContext(ctx)
	return time.Since(begun), wrap(err, "measure the round trip to NATS")
}
