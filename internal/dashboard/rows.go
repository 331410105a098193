package dashboard

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// row is a stored event as viewers receive it, encoded once for all of them.
type row struct {
	sequence uint64
	time     time.Time
	tenant   job.Tenant // whose it is; empty: of the fleet
	job      job.ID     // of an event of a job
	ended    bool       // the attempt of the job is over
	body     []byte     // JSON; empty when there is nothing to show
}

const (
	mostOutputs = 4       // of a completed job in a row; the page of the job has all
	mostMessage = 300     // bytes of a message in a row
	mostForeign = 4 << 10 // bytes of an event that is not of a job
)

// rowOf reads a stored event. What is too long for a list is left out: the page of a job reads the whole event by a call.
func rowOf(n *jetstream.Note) row {
	r := row{sequence: n.Sequence, time: n.Time}
	rest, ok := strings.CutPrefix(n.Subject, names.EventsPrefix)
	if !ok {
		return r
	}
	kind, _, _ := strings.Cut(rest, ".")
	switch kind {
	case "jobs":
		r.ofJob(n)
	case "webhooks":
		if owner, _, ok := names.WebhookOfTry(n.Subject); ok && owner != names.Fleet {
			r.tenant = owner
		}
		fallthrough
	case "blocks", "hosts", "operator":
		if len(n.Body) <= mostForeign && json.Valid(n.Body) {
			r.encode(kind, rest[strings.LastIndexByte(rest, '.')+1:], n.Body)
		}
	}
	return r
}

func (r *row) ofJob(n *jetstream.Note) {
	e, ours := n.Event()
	if !ours {
		return
	}
	r.tenant, r.job = e.Tenant, e.Job
	r.ended = e.EventKind.Terminal() || e.EventKind == job.Failed
	e.Metadata, e.Hosts, e.CachedNodes, e.Attempts, e.NodeTimes, e.Seeds = nil, nil, nil, nil, nil, nil
	e.Outputs = e.Outputs[:min(len(e.Outputs), mostOutputs)]
	for i := range e.Outputs {
		e.Outputs[i].Text = ""
	}
	if len(e.Message) > mostMessage {
		e.Message = strings.ToValidUTF8(e.Message[:mostMessage], "") + "…"
	}
	body, err := json.Marshal(&e)
	if err == nil {
		r.encode("jobs", string(e.EventKind), body)
	}
}

func (r *row) encode(of, kind string, event json.RawMessage) {
	r.body, _ = json.Marshal(struct { // all of it can be encoded
		Sequence uint64          `json:"sequence"`
		Time     time.Time       `json:"time"`
		Of       string          `json:"of"`   // jobs, blocks, hosts, operator or webhooks
		Kind     string          `json:"kind"` // the last token of the subject
		Event    json.RawMessage `json:"event"`
	}{r.sequence, r.time, of, kind, event})
}
