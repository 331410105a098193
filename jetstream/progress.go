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
	Value      float64 `json:"value"`
	Max        float64 `json:"max"`
	Node       string  `json:"node"`
	Class      string  `json:"class_type"`
	NodesDone  int     `json:"nodes_done"`
	NodesTotal int     `json:"nodes_total"`
}

// FollowProgress calls tell with the live progress of the tenant's jobs until ctx ends, one after the other.
func (c *Client) FollowProgress(ctx context.Context, tell func(ID, Progress)) error {
	if !c.tenant.Valid() {
		return noTenant(c.tenant)
	}
	sub, err := c.nc.Subscribe(names.LiveSubject(c.tenant, "*", "progress"), func(msg *nats.Msg) {
		var p Progress
		if json.Unmarshal(msg.Data, &p) == nil {
			tell(names.JobOfLive(msg.Subject), p)
		}
	})
	if err != nil {
		return fmt.Errorf("follow the progress of tenant %s: %w", c.tenant, err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed already
	return ctx.Err()
}
