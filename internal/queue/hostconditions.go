package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// HostCondition is the state of a host that must survive a restart of its agent: that an operator has drained it, and why it is
// unhealthy. Only its agent writes it.
type HostCondition struct {
	Drained   bool   `json:"drained,omitempty"`
	DrainedBy string `json:"drained_by,omitempty"`

	Cause   failure.Cause   `json:"cause,omitempty"`   // empty: the host is healthy
	Reason  string          `json:"reason,omitempty"`  // for people
	Trial   bool            `json:"trial,omitempty"`   // Cause is only suspected; the next job of another workflow decides
	Hashes  []workflow.Hash `json:"hashes,omitempty"`  // of the workflows that have failed in this way
	Process string          `json:"process,omitempty"` // the ComfyUI process that has the cause; a restarted one counts as healthy
	Blame   *Blame          `json:"blame,omitempty"`
	Prompts []string        `json:"prompts,omitempty"` // orphans: prompts that may still run there and for which no attempt waits
	Time    time.Time       `json:"time"`
}

// Condition reads a host's condition; the zero value when none is stored, or when the stored value is not valid.
func (q *Queue) Condition(ctx context.Context, host string) (HostCondition, error) {
	entry, err := q.conditions.Get(ctx, host)
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return HostCondition{}, nil
	}
	if err != nil {
		return HostCondition{}, fmt.Errorf("read condition of host %s: %w", host, err)
	}
	c, err := decodeChecked[HostCondition](entry.Value())
	if err != nil { // another program has written it: as if there were none
		q.warn(fmt.Errorf("the condition of host %s in %s is not valid and is ignored: %w", host, names.ConditionsBucket, err))
	}
	return c, nil
}

// PutCondition stores a host's condition.
func (q *Queue) PutCondition(ctx context.Context, host string, c *HostCondition) error {
	return putJSON(ctx, q.conditions, host, c)
}
