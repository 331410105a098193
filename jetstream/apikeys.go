package jetstream

import (
	"context"
	"time"
)

// APIKeys are the keys of Comfy's own accounts, by which API nodes of a workflow are paid for. They are sent to ComfyUI as members of
// extra_data and are never written to a disk: they are kept in memory for a day, and removed when the job has ended.
type APIKeys struct {
	Job       ID     `json:"job"`
	APIKey    string `json:"api_key_comfy_org,omitempty"`
	AuthToken string `json:"auth_token_comfy_org,omitempty"`
}

// APIKeysAnswer says until when the keys are kept.
type APIKeysAnswer struct {
	Job   ID        `json:"job"`
	Until time.Time `json:"until"`
}

// KeepAPIKeys gives the fleet the keys of a job that is submitted afterwards, with the same ID and with APIKeys set in its Spec.
func (c *Client) KeepAPIKeys(ctx context.Context, keys APIKeys) (APIKeysAnswer, error) {
	return answerTo[APIKeysAnswer](ctx, c, "api_keys", keys)
}
