package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// maxSubmit is the most bytes of a submit that are read.
const maxSubmit = 64 << 20

// v2Submit is the body of POST /api/v2/jobs.
type v2Submit struct {
	Workflow   json.RawMessage `json:"workflow"`
	ExtraData  json.RawMessage `json:"extra_data"`
	Metadata   json.RawMessage `json:"metadata"`
	WebhookURL json.RawMessage `json:"webhook_url"` // reserved by the document
	Inputs     json.RawMessage `json:"inputs"`      // reserved by the document
}

// submission is a submit that has been checked.
type submission struct {
	spec    job.Spec
	encoded []byte // the job's body
	body    []byte // what is stored of what was submitted

	partnerKey string // never stored on a disk
}

// postJob checks a submit, claims its idempotency key, stores what was submitted, and publishes the job. After a crash between two of these
// steps there is no job, and at most a key that stays used and a file that expires.
func (g *Gateway) postJob(w http.ResponseWriter, r *http.Request, of *tenant) error {
	key, err := onceKey(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, maxSubmit)
	if err != nil {
		return err
	}
	now := g.q.Now()
	s, err := g.submission(r.Context(), of, body, now)
	if err != nil {
		return err
	}
	if err := g.once(r.Context(), of, key, func() error { return g.publish(r.Context(), of, s) }); err != nil {
		return err
	}
	row := Row{
		Job: s.spec.ID, Priority: job.Usual, Created: now, Time: now, Metadata: s.spec.Metadata, Submission: submissionOf(s.spec.Metadata),
	}
	writeV2(w, http.StatusCreated, g.viewOf(r).job(&row, nil))
	return nil
}

// once does what a request asks, if its key was not used before. The key can be used again when that failed and nothing was made.
// After any other error it stays used, since the outcome is unknown.
func (g *Gateway) once(ctx context.Context, of *tenant, key string, do func() error) error {
	if key == "" {
		return do()
	}
	claimed, err := g.q.ClaimRequestKey(ctx, of.name, key, "")
	if err != nil {
		return err
	}
	if !claimed {
		return onceReused()
	}
	err = do()
	if _, nothing := errors.AsType[*refusal](err); nothing {
		if err := g.q.ReleaseRequestKey(context.WithoutCancel(ctx), of.name, key); err != nil {
			g.log.Warn("an idempotency key could not be released after a request that stored nothing", "tenant", of.name, "error", err)
		}
	}
	return err
}

// submission checks a submit and makes the job of it.
func (g *Gateway) submission(ctx context.Context, of *tenant, body []byte, now time.Time) (*submission, error) {
	submit, labels, key, err := readSubmit(body)
	if err != nil {
		return nil, err
	}
	graph, inputs, err := g.resolve(ctx, of, submit.Workflow)
	if err != nil {
		return nil, err
	}
	parsed, err := workflow.Parse(graph)
	if err != nil {
		return nil, invalidWorkflow(err)
	}
	s := &submission{partnerKey: key, spec: job.Spec{ID: job.ID(uuid.NewString()), Workflow: graph, Inputs: inputs, Record: true, APIKeys: key != ""}}
	if s.spec.Metadata, err = metadataOf(&Submission{Created: now.UnixMilli(), Labels: labels}); err != nil {
		return nil, fmt.Errorf("write the labels: %w", err)
	}
	if s.encoded, err = s.spec.Encode(); err != nil {
		return nil, invalidWorkflow(err)
	}
	if err := g.runnable(ctx, of, s, parsed); err != nil {
		return nil, err
	}
	s.body, err = json.Marshal(struct {
		Prompt json.RawMessage `json:"prompt"`
	}{s.spec.Workflow})
	if err != nil {
		return nil, fmt.Errorf("write what was submitted: %w", err)
	}
	return s, nil
}

// readSubmit reads the body of a submit and checks all that needs nothing else. key is for nodes that call paid services.
func readSubmit(body []byte) (s *v2Submit, labels map[string]string, key string, err error) {
	s = &v2Submit{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, nil, "", badRequest("the body is no JSON object with a workflow: %s", err)
	}
	for name, value := range map[string]json.RawMessage{"webhook_url": s.WebhookURL, "inputs": s.Inputs} {
		if !absent(value) {
			return nil, nil, "", unprocessable("invalid_workflow", "%s is reserved by the Comfy API v2 for later: leave it out", name)
		}
	}
	switch {
	case absent(s.Workflow) || s.Workflow[0] != '{':
		return nil, nil, "", unprocessable("invalid_workflow", "the body has no workflow: give an object in API format (in ComfyUI: Workflow → Export (API))")
	case inUIFormat(s.Workflow):
		return nil, nil, "", unprocessable("workflow_format_ui", "the workflow is in the format that ComfyUI's page saves: export it with \"Workflow → Export (API)\"")
	}
	if labels, err = readLabels(s.Metadata); err != nil {
		return nil, nil, "", err
	}
	key, err = readPartnerKey(s.ExtraData)
	return s, labels, key, err
}

func absent(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }

// partnerKeyField is the only member of extra_data that the document has: a key for nodes that call paid services.
const partnerKeyField = "api_key_comfy_org"

// readPartnerKey checks the extra_data of a submit.
func readPartnerKey(raw json.RawMessage) (string, error) {
	if absent(raw) {
		return "", nil
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return "", badRequest("extra_data must be an object")
	}
	for name, value := range members {
		if _, is := value.(string); name != partnerKeyField || !is {
			return "", badRequest("extra_data may have one member, the string %s: leave %.60q out", partnerKeyField, name)
		}
	}
	key, _ := members[partnerKeyField].(string)
	return key, nil
}

// invalidWorkflow is the answer to a workflow that no host could run.
func invalidWorkflow(err error) error {
	e := unprocessable("invalid_workflow", "%s", err.Error())
	if refused, ok := errors.AsType[*workflow.Error](err); ok && refused.Node != "" {
		e.details = map[string]any{"node_errors": map[string][]nodeError{refused.Node: {{Reason: "invalid", Message: refused.Message}}}}
	}
	return e
}

// publish stores what was submitted and then the job. A refusal means that there is no job.
func (g *Gateway) publish(ctx context.Context, of *tenant, s *submission) error {
	name := queue.BodyName(of.name, s.spec.ID)
	if _, err := g.q.StoreOutput(ctx, name, "application/json", bytes.NewReader(s.body)); err != nil {
		if errors.Is(err, jetstream.ErrNoSpace) || errors.Is(err, queue.ErrBusy) {
			return full("the fleet has no room for more workflows at the moment")
		}
		return nothingMade(fmt.Errorf("store what was submitted as job %s: %w", s.spec.ID, err))
	}
	err := g.publishJob(ctx, of, s)
	if refused := submitRefusal(err); refused != nil {
		g.q.RemoveOutput(ctx, name)
		return refused
	}
	return err
}

// publishJob gives the job's keys to the fleet, and publishes the job. One that is larger than a message of NATS is stored as a file
// before, which the message names and which is removed when the job is not stored.
func (g *Gateway) publishJob(ctx context.Context, of *tenant, s *submission) error {
	client, body, file := g.q.Client(of.name), s.encoded, ""
	if s.partnerKey != "" {
		if _, err := client.KeepAPIKeys(ctx, jetstream.APIKeys{Job: s.spec.ID, APIKey: s.partnerKey}); err != nil {
			return nothingMade(fmt.Errorf("keep the key of job %s: %w", s.spec.ID, err))
		}
	}
	if g.large(body) {
		named, err := client.ByReference(ctx, s.spec)
		if err == nil {
			file = named.WorkflowFile
			body, err = named.Encode()
		}
		if err != nil {
			return nothingMade(fmt.Errorf("store the workflow of job %s: %w", s.spec.ID, err))
		}
	}
	_, err := g.q.SubmitEncoded(ctx, job.Lane{Tenant: of.name, Priority: job.Usual}, s.spec.ID, body)
	if queue.NotStored(err) && file != "" {
		g.q.RemoveInput(ctx, file)
	}
	return err
}

// submitRefusal is the answer to an error of a publish after which there is no job; nil when there may be one.
func submitRefusal(err error) error {
	if refused, is := errors.AsType[*refusal](err); is {
		return refused
	}
	switch {
	case errors.Is(err, jetstream.ErrLaneFull):
		return full("your lane holds as many unfinished jobs as it may")
	case errors.Is(err, jetstream.ErrNoSpace):
		return full("the fleet holds as many unfinished jobs as it may")
	case errors.Is(err, jetstream.ErrTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "payload_too_large", "the job is larger than the fleet takes: leave out what it does not need")
	case queue.NotStored(err):
		return refuse(http.StatusInternalServerError, "upstream_error", "the fleet takes no jobs at the moment, since its stream of jobs is missing or has no leader: try again")
	}
	return nil
}

func full(what string) *refusal {
	e := refuse(http.StatusTooManyRequests, "queue_full", "%s: try again after some have ended", what)
	e.retryAfter = retrySeconds
	return e
}

// readBody reads the body of a request, up to a limit.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	timed := newTimedBody(w, r)
	defer timed.stop()
	var b bytes.Buffer
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, most))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, refuse(http.StatusRequestEntityTooLarge, "payload_too_large", "the body is larger than %d bytes", most)
	}
	if err != nil {
		return nil, badRequest("the body broke off: %s", strings.TrimPrefix(err.Error(), "http: "))
	}
	return b.Bytes(), nil
}
