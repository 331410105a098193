package jetstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Progress is a job's live progress. It is not stored.
type Progress struct {
	Value      float64 `json:"value"` // steps of the running node that are done
	Max        float64 `json:"max"`   // of so many
	Node       string  `json:"node"`  // id of the running node in the workflow
	Class      string  `json:"class_type"`
	NodesDone  int     `json:"nodes_done"`
	NodesTotal int     `json:"nodes_total"`
}

// FollowProgress calls tell for every progress message of the tenant's jobs, one after the other, until ctx ends, and returns its
// error. Messages that are sent during an outage of NATS are lost.
func (c *Client) FollowProgress(ctx context.Context, tell func(ID, Progress)) error {
	if !c.tenant.Valid() {
		return noTenant(c.tenant)
	}
	sub, err := c.nc.Subscribe(names.LiveSubject(c.tenant, "*", "progress"), func(msg *nats.Msg) {
		var p Progress
		if json.Unmarshal(msg.Data, &p) == nil {
			_, id := names.JobOfLive(msg.Subject)
			tell(id, p)
		}
	})
	if err != nil {
		return fmt.Errorf("follow the progress of tenant %s: %w", c.tenant, err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed already
	return ctx.Err()
}
