package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// submittedBody is what is stored of a prompt, so that the queue and the history can show it: the body as it came, but for secrets
// and for what is in the job's metadata.
type submittedBody struct {
	Prompt  json.RawMessage `json:"prompt"`
	Extra   json.RawMessage `json:"extra_data,omitempty"`
	Targets []string        `json:"partial_execution_targets,omitempty"`
}

// storedBody is the JSON of a submittedBody. The graph keeps its bytes, which may have words that JSON lacks.
func storedBody(p *prompt) []byte {
	rest := encode(submittedBody{Prompt: json.RawMessage(`""`), Extra: shownExtra(p.extra, &Submission{}), Targets: p.targets})
	const noGraph = `{"prompt":""`
	return append(append([]byte(`{"prompt":`), p.graph...), rest[len(noGraph):]...)
}

// bodyOf reads what was submitted as a job. Of a job that another program has published it is what that one published, as long as it
// has not ended; then there is nothing but the record of its run.
func (g *Gateway) bodyOf(ctx context.Context, name job.Tenant, row *Row) (submittedBody, error) {
	body := submittedBody{Prompt: json.RawMessage(`{}`)}
	stored, err := g.submitted(ctx, name, row)
	switch {
	case err == nil:
		err = decode(stored, &body)
		return body, err
	case !errors.Is(err, queue.ErrNoFile):
		return body, err
	case row.Ended():
		return body, nil
	}
	m, err := g.q.Stored(ctx, row.Sequence)
	if errors.Is(err, queue.ErrGone) {
		return body, nil
	}
	if err != nil {
		return body, err
	}
	spec, err := job.ParseSpec(m.Body)
	if err != nil {
		return body, nil //nolint:nilerr // it is no job, and a dispatcher ends it as dead: there is nothing to show
	}
	body.Prompt, body.Targets = plainJSON(spec.Workflow), spec.IncludeOutputs
	body.Extra = shownExtra(spec.ExtraData, &Submission{})
	return body, nil
}

// readOutput reads a file of COMFY_OUTPUTS that is small enough for memory.
func (g *Gateway) readOutput(ctx context.Context, name string, most int64) ([]byte, error) {
	body, file, err := g.q.OpenOutput(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if file.Size > most {
		return nil, errors.New("the file " + name + " is too large to be shown")
	}
	return io.ReadAll(body)
}

// tuple is a prompt as ComfyUI's queue and history show it: number, id, graph, extra data, and the ids of the outputs that run.
func (g *Gateway) tuple(ctx context.Context, name job.Tenant, row *Row) ([]any, error) {
	body, err := g.bodyOf(ctx, name, row)
	if err != nil {
		return nil, err
	}
	outputs := row.Submission.Outputs
	if len(body.Targets) > 0 {
		outputs = body.Targets
	}
	if outputs == nil {
		outputs = []string{}
	}
	s := row.Submission
	s.Created = row.createTime()
	return []any{row.number(), row.Job, body.Prompt, shownExtra(body.Extra, &s), outputs}, nil
}
