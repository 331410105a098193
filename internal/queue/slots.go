package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Slot is one of the places that a tenant's max_running allows: its job runs, or is being offered to a host.
type Slot struct {
	Job  job.ID    `json:"job"`
	Host string    `json:"host"`
	By   string    `json:"by"`   // the dispatcher that offers it
	Time time.Time `json:"time"` // when it was taken
}

// Slots reads the taken slots of a tenant and the revision to expect when they are written.
func (q *Queue) Slots(ctx context.Context, tenant job.Tenant) ([]Slot, uint64, error) {
	raw, err := q.readSlots.GetLastMsgForSubject(ctx, kvSubject(q.slots, string(tenant)))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read slots of tenant %s: %w", tenant, err)
	}
	var slots []Slot
	if len(raw.Data) > 0 && json.Unmarshal(raw.Data, &slots) != nil {
		slots = nil // not valid, since another program has written it: the next PutSlots replaces it
	}
	return slots, raw.Sequence, nil
}

// PutSlots writes the taken slots of a tenant that were at this revision; false when they have changed meanwhile.
func (q *Queue) PutSlots(ctx context.Context, tenant job.Tenant, slots []Slot, revision uint64) (bool, error) {
	value, err := json.Marshal(slots)
	if err != nil {
		return false, fmt.Errorf("encode slots of tenant %s: %w", tenant, err)
	}
	_, err = q.slots.Update(ctx, string(tenant), value, revision)
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "put slots of tenant %s", tenant)
}

// SlotsOf decodes a tenant's taken slots.
func SlotsOf(e Entry) (slots []Slot, err error) {
	err = json.Unmarshal(e.Value, &slots)
	return slots, wrap(err, "decode the slots")
}
