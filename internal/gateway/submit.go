package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// largestPrompt is the most bytes of a body of POST /prompt.
const largestPrompt = 64 << 20

// accepted is the answer to a prompt that was taken.
type accepted struct {
	ID         job.ID   `json:"prompt_id"`
	Number     any      `json:"number"`
	NodeErrors struct{} `json:"node_errors"`
}

// postPrompt takes a prompt. It is checked, and published; at the same time an earlier prompt with its id is looked for. After the publish
// the id is in COMFY_JOBS, where every gateway finds it, and the client is answered. Then the body is stored, with which the queue and the
// history show the prompt after its end: a crash before that leaves a prompt whose graph is no longer shown when it has ended.
func (g *Gateway) postPrompt(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := requestBody(w, r, largestPrompt)
	if err != nil {
		return err
	}
	p, err := readPrompt(body)
	if err != nil {
		return err
	}
	earlier := func() (*Row, error) { return nil, nil }
	if row, known := of.rows.Row(p.id); known {
		answerJSON(w, http.StatusOK, accepted{ID: p.id, Number: row.number()})
		return nil
	}
	if p.id == "" {
		p.id = job.ID(uuid.NewString())
	} else {
		earlier = sync.OnceValues(func() (*Row, error) { return g.earlier(r.Context(), of, p.id) })
	}
	number, err := g.take(r.Context(), of, p, earlier)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, accepted{ID: p.id, Number: number})
	return nil
}

// take publishes a prompt, unless it is refused or there is an earlier one with its id, and gives its number. An id runs once; ComfyUI
// would run it again.
func (g *Gateway) take(ctx context.Context, of *tenant, p *prompt, earlier func() (*Row, error)) (number any, err error) {
	spec, body, refused := g.checked(ctx, of, p)
	if refused != nil || g.large(body) || p.withKeys() { // a file or keys stored for this prompt would replace those of an earlier one
		switch row, err := earlier(); {
		case err != nil:
			return nil, err
		case row != nil:
			return row.number(), nil
		case refused != nil:
			return nil, refused
		}
	}
	var before *Row
	var notSearched error
	var searching sync.WaitGroup
	searching.Go(func() { before, notSearched = earlier() })
	row, err := g.submit(ctx, of, p, spec, body)
	searching.Wait()
	switch {
	case before != nil && before.Sequence != row.Sequence: // dispatchers drop the second publish of an id
		return before.number(), nil
	case err != nil:
		return nil, err
	case notSearched != nil:
		g.log.Warn("a prompt was published, but it is not known whether there was one with its id before", "tenant", of.name, "job", p.id, "error", notSearched)
	}
	of.rows.add(&row)
	g.storeBody(ctx, of.name, p)
	return row.number(), nil
}

// checked is a prompt as a job, with the files that it names, and the body of the job, when a host could run it.
func (g *Gateway) checked(ctx context.Context, of *tenant, p *prompt) (spec job.Spec, body []byte, err error) {
	graph, err := workflow.Adopt(p.graph)
	if err != nil {
		return spec, nil, refusedGraph(err)
	}
	p.submission.Created = g.q.Now().UnixMilli()
	spec = p.spec
	spec.ID, spec.IncludeOutputs, spec.ExtraData, spec.Live, spec.APIKeys = p.id, p.targets, p.extra, job.LiveFrames, p.withKeys()
	if spec.Inputs, err = g.inputsOf(ctx, of.name, p.graph); err != nil {
		return spec, nil, err
	}
	if spec.Metadata, err = metadataOf(&p.submission); err != nil {
		return spec, nil, err
	}
	if body, err = spec.Encode(); err != nil {
		return spec, nil, err
	}
	graph, body, lacking, err := g.replaceLacking(ctx, of.name, graph, &spec, body)
	if refused, is := errors.AsType[*jetstream.BadRequest](err); is {
		return spec, nil, malformed(refused.Message)
	}
	if err == nil && lacking != nil {
		err = g.lackingError(of.name, graph, lacking)
	}
	p.graph = spec.Workflow
	return spec, body, err
}

// large reports whether a job does not fit in a message of NATS.
func (g *Gateway) large(body []byte) bool { return g.q.TooLarge(len(body)) != "" }

// submit publishes a prompt as a job of the tenant. One that is large is stored as a file before, which the message names.
func (g *Gateway) submit(ctx context.Context, of *tenant, p *prompt, spec job.Spec, body []byte) (Row, error) {
	lane := job.Lane{Tenant: of.name, Priority: job.Usual}
	if p.submission.Front {
		lane.Priority++
	}
	client, metadata := g.q.Client(of.name), spec.Metadata
	if p.withKeys() {
		p.keys.Job = p.id
		if _, err := client.KeepAPIKeys(ctx, p.keys); err != nil {
			return Row{}, err
		}
	}
	if g.large(body) {
		named, err := client.ByReference(ctx, spec)
		if err == nil {
			body, err = named.Encode()
		}
		if err != nil {
			return Row{}, err
		}
	}
	receipt, err := g.q.SubmitEncoded(ctx, lane, p.id, body)
	if err != nil {
		return Row{}, refusedPublish(err)
	}
	now := g.q.Now()
	return Row{
		Job: p.id, Priority: lane.Priority, Sequence: receipt.Sequence, Created: now, Time: now,
		Metadata: metadata, Submission: p.submission,
	}, nil
}

// refusedGraph is a workflow that no ComfyUI could read, or that would stop one.
func refusedGraph(err error) error {
	f := promptFailure{Error: promptError{Type: "invalid_prompt", Message: err.Error(), ExtraInfo: struct{}{}}, NodeErrors: struct{}{}}
	if fault, is := errors.AsType[*workflow.Error](err); is && fault.Node != "" {
		f.Error.ExtraInfo = map[string]string{"node_id": fault.Node}
		f.NodeErrors = map[string]nodeErrors{fault.Node: {
			Errors: []promptError{{Type: "invalid_prompt", Message: err.Error(), ExtraInfo: struct{}{}}}, Dependents: []string{},
		}}
	}
	return &refusedPrompt{f}
}

// nodeErrors are the errors of one node, in ComfyUI's form.
type nodeErrors struct {
	Errors     []promptError `json:"errors"`
	Dependents []string      `json:"dependent_outputs"`
	Class      string        `json:"class_type"`
}

// refusedPublish is a job that NATS has not stored.
func refusedPublish(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrLaneFull):
		return &failed{http.StatusTooManyRequests, "queue_full", "the queue is full: wait until some of your jobs have ended, and send this one again"}
	case errors.Is(err, jetstream.ErrTooLarge):
		return &failed{http.StatusRequestEntityTooLarge, "payload_too_large", "the prompt is too large: upload its pictures and name the files in it. " + err.Error()}
	case errors.Is(err, jetstream.ErrNoSpace):
		return &failed{http.StatusInsufficientStorage, "no_space", "the fleet has no room for more jobs at the moment: send this one again later"}
	}
	return err
}

// requestBody reads the whole body of a request, which may be compressed.
func requestBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	timed := newTimedBody(w, r)
	defer timed.stop()
	var from io.Reader = http.MaxBytesReader(w, r.Body, most)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(from)
		if err != nil {
			return nil, malformed("the body is not compressed, although its Content-Encoding says so")
		}
		from = io.LimitReader(unzipped, most+1)
	}
	body, err := io.ReadAll(from)
	if _, long := errors.AsType[*http.MaxBytesError](err); long || int64(len(body)) > most {
		return nil, &failed{http.StatusRequestEntityTooLarge, "payload_too_large", "the body is too large: upload files and name them in the prompt"}
	}
	if err != nil {
		return nil, malformed("the body could not be read to its end: " + err.Error())
	}
	return body, nil
}
