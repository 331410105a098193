package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// AuditRecord is the event that is stored on comfy.events.operator.<call> when a call has changed something: who called, with which request,
// and what came of it. A call that changes many objects has two: one before the first change (Begins), and one at its end.
type AuditRecord struct {
	Call    string          `json:"call"`
	By      string          `json:"by"`
	Tenant  job.Tenant      `json:"tenant,omitempty"` // the tenant whose jobs or settings were changed; the caller, when a tenant calls
	Request json.RawMessage `json:"request"`          // the request as the dispatcher has decoded it
	Begins  bool            `json:"begins,omitempty"` // stored before the first of many changes; a second record follows at the end
	Count   int             `json:"count"`            // how many objects were changed
	Error   string          `json:"error,omitempty"`  // why it ended early
	Time    time.Time       `json:"time"`
}

// AppendAudit stores an audit record. source names the process that has carried it out (CloudEvents' ce-source).
func (q *Queue) AppendAudit(ctx context.Context, a *AuditRecord, source string) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the audit record of %s: %w", a.Call, err)
	}
	call := strings.ReplaceAll(a.Call, ".", "-")
	_, err = q.js.PublishMsg(ctx, &nats.Msg{Subject: names.AppendSubject(names.AuditEventsPrefix + call), Data: body, Header: nats.Header{
		"ce-specversion":        {"1.0"},
		"ce-id":                 {rand.Text()},
		"ce-source":             {source},
		"ce-type":               {"comfy.operator." + call},
		"ce-subject":            {cmp.Or(string(a.Tenant), call)},
		"ce-time":               {a.Time.UTC().Format(time.RFC3339Nano)},
		names.ContentTypeHeader: {"application/json"},
	}})
	return wrap(err, "store that %s was called by %s", a.Call, a.By)
}
