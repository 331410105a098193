package jetstream

import (
	"bytes"
	"context"
	"errors"
)

// ByReference stores a job as a file in COMFY_INPUTS and gives the job that names it, for one that is too large for a message of NATS:
// after ErrTooLarge. A workflow may have 64 MiB. The job needs an id. Its file is kept as long as other files are (24 h by default), so the
// job must begin before.
func (c *Client) ByReference(ctx context.Context, spec Spec) (Spec, error) {
	if !spec.ID.Valid() {
		return Spec{}, errors.New("a job that is submitted by reference needs an id of your own")
	}
	body, err := spec.Encode()
	if err != nil {
		return Spec{}, err
	}
	file := string(c.tenant) + "/prompts/" + string(spec.ID) + ".json"
	if _, err := c.PutFile(ctx, file, "application/json", bytes.NewReader(body)); err != nil {
		return Spec{}, err
	}
	return Spec{WorkflowFile: file, ID: spec.ID, Live: spec.Live, APIKeys: spec.APIKeys, Metadata: spec.Metadata, Traceparent: spec.Traceparent}, nil
}
