package jetstream

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Note is any stored event: of a job, a block or a host.
type Note struct {
	Subject  string
	Header   nats.Header
	Body     []byte
	Sequence uint64
	Time     time.Time
	Pending  uint64 // how many stored ones follow at this moment
}

// Event reads the event of a job; false when the note is none, as one of a host or of what somebody else has published.
func (n *Note) Event() (Event, bool) {
	tenant, id, kind, ok := names.SplitEventSubject(n.Subject)
	if !ok || !id.Valid() {
		return Event{}, false
	}
	e, named, _ := job.DecodeStored(tenant, id, kind, n.Body) // what it says and cannot be is left out
	return e, named
}

func (e *EventNote) note() Note {
	return Note{Subject: e.Subject, Body: e.Event, Sequence: e.Sequence, Time: e.Time}
}
