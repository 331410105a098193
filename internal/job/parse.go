package job

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	maxMetadata = 16 << 10
	maxTitle    = 120 // characters of a name
	maxAttempts = 100
	maxList     = 1000
	maxDuration = 87600 * time.Hour
)

// Parse reads a message as a job. The error is always an *Invalid. The job keeps the message's body, which must not
// change from then on. When the message names a file and that was not read, the job has no Graph.
func Parse(m Message) (*Job, error) {
	if !Tenant(m.Tenant).Valid() {
		return nil, invalidf("tenant %.80q is no tenant name: use 1 to 64 of A-Z a-z 0-9 _ - in comfy.jobs.<tenant>.<priority>", m.Tenant)
	}
	if !m.Priority.Valid() {
		return nil, invalidf("priority %d is none of 0 to 9, the last part of comfy.jobs.<tenant>.<priority>", m.Priority)
	}
	spec, graph, err := m.read()
	if err != nil {
		return nil, err
	}
	id, err := identify(&m, spec.ID)
	if err != nil {
		return nil, err
	}
	if err := spec.check(Tenant(m.Tenant), m.Received); err != nil {
		return nil, err
	}
	refers := spec.WorkflowFile != "" && m.File == nil
	if graph == nil && !refers {
		if graph, err = workflow.Adopt(spec.Workflow); err != nil {
			return nil, &Invalid{Reason: failure.InvalidJob, Message: cmp.Or(misplaced(m.Body, spec.Workflow), err.Error())}
		}
	}
	if !refers {
		if err := spec.checkNodes(graph); err != nil {
			return nil, err
		}
	}
	if _, valid := ParseTraceparent(m.Traceparent); valid {
		spec.Traceparent = m.Traceparent
	}
	return &Job{
		Spec: spec, ID: id, Tenant: Tenant(m.Tenant), Priority: m.Priority, Sequence: m.Sequence,
		Received: m.Received, RequeueOf: ID(m.RequeueOf), Graph: graph,
	}, nil
}

// PublishedID is the id under which the publisher of a message follows it, for a message that Parse has refused. It is one of
// the system's own when the publisher gave none, or none that may be used.
func (m *Message) PublishedID() ID {
	spec, _, _ := read(m.Body) // when the body cannot be read, the headers alone give the id
	id, err := identify(m, spec.ID)
	if err != nil {
		return m.GeneratedID()
	}
	return id
}

func identify(m *Message, inBody ID) (ID, error) {
	inHeader := ID(m.JobIDHeader)
	if requeued(inHeader, ID(m.RequeueOf)) { // the body is that of the dead job, and so is the id in it
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
			return m.GeneratedID(), nil
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

// requeued reports whether an id is that of a requeue of another: of a job that a publisher named, whatever its name looks
// like, or of one that is a requeue itself.
func requeued(id, of ID) bool {
	root := RootID(id)
	if id == root {
		return false
	}
	return root == RootID(RequeueID(of, 1)) || root == RootID(RequeueID(RootID(of), 1))
}

func (s *Spec) check(tenant Tenant, received time.Time) error {
	switch {
	case s.MaxAttempts < 0 || s.MaxAttempts > maxAttempts:
		return badAttempts(s.MaxAttempts)
	case utf8.RuneCountInString(s.Name) > maxTitle:
		return invalidf("name has %d characters: it is in every event, keep it to %d", utf8.RuneCountInString(s.Name), maxTitle)
	case strings.ContainsFunc(s.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return invalidf("name has a character that cannot be printed: write it in one line")
	case len(s.Metadata) > maxMetadata:
		return invalidf("metadata has %d bytes: it is in every event, keep it under %d", len(s.Metadata), maxMetadata)
	case s.Live != "" && s.Live != LiveFrames:
		return invalidf("live is %.80q: use %q, or leave it out", s.Live, LiveFrames)
	case s.Webhook != "" && !ValidHost(s.Webhook):
		return invalidf("webhook is %.80q: give the name of a webhook of the tenant, 1 to 64 of A-Z a-z 0-9 _ -, and no address", s.Webhook)
	case !objectOrAbsent(s.ExtraData):
		return invalidf("extra_data must be a JSON object")
	case len(s.IncludeOutputs) > maxList:
		return invalidf("include_outputs names %d nodes: at most %d", len(s.IncludeOutputs), maxList)
	case s.RunAt != nil && !received.IsZero() && s.RunAt.Sub(received) > maxDuration:
		return invalidf("run_at is %s, more than ten years ahead", s.RunAt.Format(time.RFC3339))
	}
	if err := s.checkDurations(); err != nil {
		return err
	}
	if string(s.Metadata) == "null" {
		s.Metadata = nil
	}
	if string(s.ExtraData) == "null" {
		s.ExtraData = nil
	}
	return cmp.Or(
		checkHosts("prefer_hosts", s.PreferHosts), checkHosts("only_hosts", s.OnlyHosts), checkHosts("exclude_hosts", s.ExcludeHosts),
		s.checkInputs(tenant), s.checkFile(tenant))
}

func (s *Spec) checkDurations() error {
	var start, node, total Duration
	if s.Timeouts != nil {
		start, node, total = orZero(s.Timeouts.Start), orZero(s.Timeouts.Node), orZero(s.Timeouts.Total)
	}
	return cmp.Or(
		checkDuration("retry_delay", s.RetryDelay), checkDuration("expires_in", s.ExpiresIn),
		checkDuration("timeouts.start", start), checkDuration("timeouts.node", node), checkDuration("timeouts.total", total))
}

func orZero(d *Duration) Duration {
	if d == nil {
		return 0
	}
	return *d
}

func checkDuration(field string, d Duration) error {
	if time.Duration(d) > maxDuration {
		return invalidf("%s is %s: use 0s to %s, which is ten years", field, time.Duration(d), maxDuration)
	}
	return nil
}

func objectOrAbsent(raw json.RawMessage) bool {
	return len(raw) == 0 || raw[0] == '{' || string(raw) == "null"
}

// CheckHosts gives an error when one of these names neither a host nor a label, as "gpu=4090".
func CheckHosts(hosts []string) error { return checkHosts("only_hosts", hosts) }

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
	key, value, _ := strings.Cut(s, "=")
	value = strings.NewReplacer(".", "", ":", "").Replace(value)
	return nameLike(key, maxName) && nameLike(value, maxName)
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
		if err := checkDataURI(in.URL); err != nil {
			return invalidf("inputs[%d]: url %s", i, err)
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
