package job

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	maxMetadata = 16 << 10
	maxAttempts = 100
	maxList     = 1000
)

// Parse reads a message as a job. The error is always an *Invalid. The job keeps the message's body, which must not
// change from then on.
func Parse(m Message) (*Job, error) {
	if !Tenant(m.Tenant).Valid() {
		return nil, invalidf("tenant %.80q is no tenant name: use 1 to 64 of A-Z a-z 0-9 _ - in comfy.jobs.<tenant>.<priority>", m.Tenant)
	}
	spec, graph, err := read(m.Body)
	if err != nil {
		return nil, err
	}
	id, err := identify(&m, spec.ID)
	if err != nil {
		return nil, err
	}
	if err := spec.check(Tenant(m.Tenant)); err != nil {
		return nil, err
	}
	if graph == nil {
		if graph, err = workflow.Adopt(spec.Workflow); err != nil {
			return nil, &Invalid{Reason: failure.InvalidJob, Message: err.Error()}
		}
	}
	if err := spec.checkNodes(graph); err != nil {
		return nil, err
	}
	return &Job{
		Spec: spec, ID: id, Tenant: Tenant(m.Tenant), Priority: m.Priority, Sequence: m.Sequence,
		Received: m.Received, RequeueOf: ID(m.RequeueOf), Graph: graph,
	}, nil
}

// read is ParseSpec, which reads a workflow that stands in an envelope three times. To read it as a workflow at once is
// the cheapest way to see what a body is and whether it is well-formed; the graph is nil when that failed.
func read(body []byte) (Spec, *workflow.Graph, error) {
	if spec, graph := readAtOnce(trim(body)); graph != nil {
		return spec, graph, nil
	}
	spec, err := ParseSpec(body)
	return spec, nil, err
}

func readAtOnce(body []byte) (Spec, *workflow.Graph) {
	switch {
	case len(body) == 0 || body[0] != '{':
		return Spec{}, nil
	case !seemsBare(body):
		return readWrapped(body)
	}
	graph, err := workflow.Adopt(body)
	if err != nil || graph.ClassOf("workflow") != "" || graph.ClassOf("prompt") != "" {
		return Spec{}, nil
	}
	return Spec{Workflow: body}, graph
}

// readWrapped reads an envelope or a prompt body. What stands around the workflow is decoded without it.
func readWrapped(body []byte) (Spec, *workflow.Graph) {
	top, ok := topLevel(body)
	inner, decode := top.workflow, parseEnvelope
	if inner == (span{}) {
		inner, decode = top.prompt, parsePrompt
	}
	if !ok || inner == (span{}) {
		return Spec{}, nil
	}
	graph, err := workflow.Adopt(inner.of(body))
	if err != nil {
		return Spec{}, nil
	}
	const stub = `"the workflow"`
	spec, err := decode(slices.Concat(body[:inner.from], []byte(stub), body[inner.to:]))
	if err != nil || string(spec.Workflow) != stub { // "WORKFLOW" is the same field to encoding/json
		return Spec{}, nil
	}
	spec.Workflow = inner.of(body)
	return spec, graph
}

// ParseSpec tells the three bodies apart: the envelope, ComfyUI's own POST /prompt body, and a bare workflow.
// The workflow in it is not looked into.
func ParseSpec(body []byte) (Spec, error) {
	body = trim(body)
	if len(body) == 0 {
		return Spec{}, invalidf("the message is empty: publish an API-format workflow, a POST /prompt body or an envelope {\"workflow\":{…}}")
	}
	if body[0] != '{' {
		return Spec{}, invalidf("the message is no JSON object: publish an API-format workflow (in ComfyUI: Workflow → Export (API))")
	}
	top, ok := topLevel(body)
	if !ok {
		return Spec{}, malformed(body)
	}
	switch {
	case isContainer(top.workflow.of(body)):
		return parseEnvelope(body)
	case isContainer(top.prompt.of(body)):
		return parsePrompt(body)
	}
	return Spec{Workflow: body}, nil
}

// trim takes off what may stand around JSON in a file.
func trim(body []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\xef\xbb\xbf")))
}

// malformed says where a body stops being JSON.
func malformed(body []byte) error {
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole)
	if err == nil {
		return invalidf("the message is no JSON object")
	}
	return invalidf("the message is no valid JSON: %s", jsonError(err))
}

// isContainer tells an envelope's field from a node that happens to have that id.
func isContainer(value json.RawMessage) bool {
	if len(value) == 0 {
		return false
	}
	var node struct {
		Class *string `json:"class_type"`
	}
	return json.Unmarshal(value, &node) != nil || node.Class == nil
}

func parseEnvelope(body []byte) (Spec, error) {
	var spec Spec
	if err := json.Unmarshal(body, &spec); err != nil {
		return Spec{}, invalidf("the envelope does not fit: %s", jsonError(err))
	}
	return spec, nil
}

func parsePrompt(body []byte) (Spec, error) {
	var prompt struct {
		Prompt    json.RawMessage `json:"prompt"`
		ExtraData json.RawMessage `json:"extra_data"`
	}
	if err := json.Unmarshal(body, &prompt); err != nil {
		return Spec{}, invalidf("the prompt body does not fit: %s", jsonError(err))
	}
	return Spec{Workflow: prompt.Prompt, ExtraData: prompt.ExtraData}, nil
}

func jsonError(err error) string {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return "field " + wrongType.Field + " must not be a " + wrongType.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func identify(m *Message, inBody ID) (ID, error) {
	inHeader := ID(m.JobIDHeader)
	if requeued(inHeader, ID(m.RequeueOf)) { // the body is the dead job's, its id with it
		inBody = inHeader
	}
	if inBody != "" && inHeader != "" && inBody != inHeader {
		return "", invalidf("the ids disagree: the body says %.130q, the header Comfy-Job-Id %.130q; give one, or the same", inBody, inHeader)
	}
	id := inBody
	if id == "" {
		id = inHeader
	}
	if id == "" {
		id = ID(m.MsgIDHeader)
		if !id.Valid() {
			return m.OwnID(), nil
		}
	}
	if !id.Valid() {
		return "", invalidf("id %.130q is no job id: use 1 to 120 of A-Z a-z 0-9 _ -", id)
	}
	if id.Ours() && !requeued(id, ID(m.RequeueOf)) {
		return "", invalidf("id %q begins with \"j-\", which only the system's own ids do: choose another", id)
	}
	return id, nil
}

func requeued(id, of ID) bool { return of != "" && RootID(id) == RootID(of) && id != RootID(id) }

func (s *Spec) check(tenant Tenant) error {
	switch {
	case s.MaxAttempts < 0 || s.MaxAttempts > maxAttempts:
		return invalidf("max_attempts is %d: use 1 to %d, or leave it out for %d", s.MaxAttempts, maxAttempts, failure.DefaultMaxAttempts)
	case len(s.Metadata) > maxMetadata:
		return invalidf("metadata has %d bytes: it stands in every event, keep it under %d", len(s.Metadata), maxMetadata)
	case !objectOrAbsent(s.ExtraData):
		return invalidf("extra_data must be a JSON object")
	}
	if string(s.Metadata) == "null" {
		s.Metadata = nil
	}
	if string(s.ExtraData) == "null" {
		s.ExtraData = nil
	}
	return cmp.Or(
		checkHosts("prefer_hosts", s.PreferHosts), checkHosts("only_hosts", s.OnlyHosts), checkHosts("exclude_hosts", s.ExcludeHosts),
		s.checkInputs(tenant))
}

func objectOrAbsent(raw json.RawMessage) bool {
	return len(raw) == 0 || raw[0] == '{' || string(raw) == "null"
}

// A wish names a host, or a label as "gpu=4090".
func checkHosts(field string, hosts []string) error {
	if len(hosts) > maxList {
		return invalidf("%s names %d hosts: at most %d", field, len(hosts), maxList)
	}
	for _, h := range hosts {
		if !ValidHost(h) && !ValidLabel(h) {
			return invalidf("%s: %.80q is neither a host name (1 to 64 of A-Z a-z 0-9 _ -) nor a label like gpu=4090", field, h)
		}
	}
	return nil
}

// ValidLabel reports whether s is a host label, key=value; both of A-Z a-z 0-9 _ - and the value also of . and :.
func ValidLabel(s string) bool {
	key, value, found := strings.Cut(s, "=")
	value = strings.NewReplacer(".", "", ":", "").Replace(value)
	return found && nameLike(key, maxName) && nameLike(value, maxName)
}

func (s *Spec) checkInputs(tenant Tenant) error {
	if len(s.Inputs) > maxList {
		return invalidf("inputs has %d files: at most %d", len(s.Inputs), maxList)
	}
	for i, in := range s.Inputs {
		switch {
		case in.Node == "" || in.Input == "":
			return invalidf("inputs[%d]: node and input must say where the file name goes", i)
		case (in.Object == "") == (in.URL == ""):
			return invalidf("inputs[%d]: give either object (a name in COMFY_INPUTS) or url", i)
		case in.Object != "" && !strings.HasPrefix(in.Object, string(tenant)+"/"):
			return invalidf("inputs[%d]: object %.200q must begin with your tenant's name: %q", i, in.Object, string(tenant)+"/…")
		case in.URL != "" && !fetchable(in.URL):
			return invalidf("inputs[%d]: url must begin with http://, https:// or data:", i)
		}
	}
	return nil
}

func fetchable(raw string) bool {
	if strings.HasPrefix(raw, "data:") {
		return true
	}
	u, err := url.Parse(raw)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func (s *Spec) checkNodes(g *workflow.Graph) error {
	for _, node := range s.IncludeOutputs {
		if g.ClassOf(node) == "" {
			return invalidf("include_outputs names node %.80q, which the workflow does not have", node)
		}
	}
	for i, in := range s.Inputs {
		if g.ClassOf(in.Node) == "" {
			return invalidf("inputs[%d] names node %.80q, which the workflow does not have", i, in.Node)
		}
	}
	return nil
}
