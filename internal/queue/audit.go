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

// Act is the audit event of a call that changes something, stored on comfy.events.operator.<call>: who has called, with which
// request, and with which outcome. A call that changes many things has two: before the first change, and at its end.
type Act struct {
	Call    string          `json:"call"`
	By      string          `json:"by"`
	Tenant  job.Tenant      `json:"tenant,omitempty"` // whose jobs or settings; of a tenant's own call it is the caller
	Request json.RawMessage `json:"request"`          // the call's conditions as they were understood
	Begins  bool            `json:"begins,omitempty"` // the first of two: before the first of many changes
	Count   int             `json:"count"`            // how much was changed
	Error   string          `json:"error,omitempty"`  // why it ended early
	Time    time.Time       `json:"time"`
}

// AppendAct stores an act. source says which process has carried it out (CloudEvents' ce-source).
func (q *Queue) AppendAct(ctx context.Context, a *Act, source string) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the act %s: %w", a.Call, err)
	}
	call := strings.ReplaceAll(a.Call, ".", "-")
	_, err = q.js.PublishMsg(ctx, &nats.Msg{Subject: names.AppendSubject(names.ActEventsPrefix + call), Data: body, Header: nats.Header{
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
