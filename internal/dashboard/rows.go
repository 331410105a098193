package dashboard

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// row is a stored event as viewers receive it. It is encoded when the first viewer is sent it, once for all of them.
type row struct {
	sequence uint64
	time     time.Time
	subject  string
	stored   []byte        // the body of the event, until the row is encoded; empty when there is nothing to show
	tenant   job.Tenant    // whose it is; empty: of the fleet
	job      job.ID        // of an event of a job
	kind     job.EventKind // of an event of a job
	body     []byte        // JSON, when it is encoded and there is something to show
}

const mostForeign = 4 << 10 // bytes of an event that is not of a job

// rowOf reads a stored event as far as its subject says what it is.
func rowOf(n *jetstream.Note) row {
	r := row{sequence: n.Sequence, time: n.Time, subject: n.Subject}
	rest, ok := strings.CutPrefix(n.Subject, names.EventsPrefix)
	if !ok {
		return r
	}
	of, _, _ := strings.Cut(rest, ".")
	switch of {
	case "jobs":
		tenant, id, kind, ok := names.SplitEventSubject(n.Subject)
		if !ok || !id.Valid() {
			return r
		}
		r.tenant, r.job, r.kind = tenant, id, kind
	case "webhooks":
		if owner, _, ok := names.WebhookOfTry(n.Subject); ok && owner != names.Fleet {
			r.tenant = owner
		}
	case "blocks", "hosts", "operator":
	default:
		return r
	}
	if of == "jobs" || len(n.Body) <= mostForeign {
		r.stored = n.Body
	}
	return r
}

// attemptEnds reports whether an attempt of a job is over with the event.
func (r *row) attemptEnds() bool { return r.kind.Terminal() || r.kind == job.Failed }

// replacedBy reports whether a viewer who is sent a later event of the job too can do without this one.
func (r *row) replacedBy(later job.EventKind) bool {
	switch r.kind {
	case job.Waiting:
		return later != ""
	case job.Started:
		return later == job.Completed || later == job.Failed // which name the host and the attempt
	}
	return false
}

// encode makes the body from what is stored. What is too long for a list is left out: the page of a job reads the whole event by a call.
func (r *row) encode() {
	stored := r.stored
	r.stored = nil
	if stored == nil {
		return
	}
	rest := strings.TrimPrefix(r.subject, names.EventsPrefix)
	b := make([]byte, 0, len(stored)+len(rest)+128)
	b = strconv.AppendUint(append(b, `{"sequence":`...), r.sequence, 10)
	b = job.AppendTime(append(b, `,"time":`...), r.time)
	of, _, _ := strings.Cut(rest, ".")
	b = job.AppendText(append(b, `,"of":`...), of) // jobs, blocks, hosts, operator or webhooks
	b = job.AppendText(append(b, `,"kind":`...), rest[strings.LastIndexByte(rest, '.')+1:])
	b = append(b, `,"event":`...)
	shown := false
	if r.job != "" {
		b, shown = job.AppendLean(b, r.tenant, r.job, r.kind, stored)
	} else if compact, err := json.Marshal(json.RawMessage(stored)); err == nil { // in one line, as the stream needs it
		b, shown = append(b, compact...), true
	}
	if shown {
		r.body = append(b, '}')
	}
}
