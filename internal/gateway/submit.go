package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
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

// postPrompt takes a prompt. In order: it is checked, and at the same time an earlier prompt with its id is looked for; the job is
// published, and at the same time the body is stored, with which the queue and the history show the prompt after its end. A crash
// between the two leaves a prompt whose graph is no longer shown when it has ended, or a body without a job, which expires. After
// the publish the id is in COMFY_JOBS, where every gateway finds it.
func (g *Gateway) postPrompt(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := requestBody(w, r, largestPrompt)
	if err != nil {
		return err
	}
	p, err := readPrompt(body)
	if err != nil {
		return err
	}
	var earlier *Row
	var lookedUp error
	var looking sync.WaitGroup
	if p.id != "" {
		looking.Go(func() { earlier, lookedUp = g.earlier(r.Context(), of, p.id) })
	} else {
		p.id = job.ID(uuid.NewString())
	}
	spec, refused := g.checked(r.Context(), of, p)
	looking.Wait()
	switch {
	case lookedUp != nil:
		return lookedUp
	case earlier != nil: // an id runs once; ComfyUI would run it again
		answerJSON(w, http.StatusOK, accepted{ID: p.id, Number: earlier.number()})
		return nil
	case refused != nil:
		return refused
	}
	row, err := g.submit(r.Context(), of, p, spec)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, accepted{ID: p.id, Number: row.number()})
	return nil
}

// checked is a prompt as a job, with the files that it names, when a host could run it.
func (g *Gateway) checked(ctx context.Context, of *tenant, p *prompt) (job.Spec, error) {
	graph, err := workflow.Adopt(p.graph)
	if err != nil {
		return job.Spec{}, refusedGraph(err)
	}
	p.submission.Created = g.q.Now().UnixMilli()
	spec := p.spec
	spec.ID, spec.IncludeOutputs, spec.ExtraData, spec.Live = p.id, p.targets, p.extra, job.LiveFrames
	if spec.Inputs, err = g.inputsOf(ctx, of.name, p.graph); err != nil {
		return job.Spec{}, err
	}
	if err := g.checkRunnable(ctx, of.name, graph, &spec); err != nil {
		return job.Spec{}, err
	}
	spec.Metadata, err = metadataOf(&p.submission)
	return spec, err
}

// submit publishes a prompt as a job of the tenant.
func (g *Gateway) submit(ctx context.Context, of *tenant, p *prompt, spec job.Spec) (Row, error) {
	lane := job.Lane{Tenant: of.name, Priority: job.Usual}
	if p.submission.Front {
		lane.Priority++
	}
	if p.keys.APIKey != "" || p.keys.AuthToken != "" {
		p.keys.Job, spec.APIKeys = p.id, true
		if _, err := g.q.Client(of.name).KeepAPIKeys(ctx, p.keys); err != nil {
			return Row{}, err
		}
	}
	published, err := g.small(ctx, of.name, spec)
	if err != nil {
		return Row{}, err
	}
	var notStored error
	var storing sync.WaitGroup
	storing.Go(func() { notStored = g.storeBody(ctx, of.name, p) })
	receipt, err := g.q.Submit(ctx, lane, published)
	storing.Wait()
	if err != nil {
		return Row{}, refusedPublish(err)
	}
	if notStored != nil { // the prompt runs all the same
		g.log.Warn("what a prompt submitted is not stored, so that its graph is not shown after its end", "tenant", of.name, "job", p.id, "error", notStored)
	}
	now := g.q.Now()
	row := Row{
		Job: p.id, Priority: lane.Priority, Sequence: receipt.Sequence, Created: now, Time: now,
		Metadata: spec.Metadata, Submission: p.submission,
	}
	of.rows.add(&row)
	return row, nil
}

// small is a job as it is published. One that is larger than a message of NATS is stored as a file, which the message names.
func (g *Gateway) small(ctx context.Context, name job.Tenant, spec job.Spec) (job.Spec, error) {
	body, err := spec.Encode()
	if err != nil || g.q.TooLarge(len(body)) == "" {
		return spec, err
	}
	return g.q.Client(name).ByReference(ctx, spec)
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

// checkRunnable refuses a prompt that no host of the tenant could run whenever it comes.
func (g *Gateway) checkRunnable(ctx context.Context, name job.Tenant, graph *workflow.Graph, spec *job.Spec) error {
	lacking, err := g.lacking(ctx, name, spec)
	if refused, is := errors.AsType[*jetstream.BadRequest](err); is {
		return malformed(refused.Message)
	}
	if err == nil && lacking != nil {
		err = g.lackingError(name, graph, lacking)
	}
	return err
}

// storeBody stores what was submitted, without secrets.
func (g *Gateway) storeBody(ctx context.Context, name job.Tenant, p *prompt) error {
	_, err := g.q.StoreOutput(ctx, queue.BodyName(name, p.id), "application/json", bytes.NewReader(storedBody(p)))
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
