package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// v2View makes the shapes of one answer: links begin with the address that the client has used.
type v2View struct {
	base string        // scheme, host and, where the key is in the path, its prefix
	age  time.Duration // how long files are kept
	log  time.Duration // how long events are kept
}

// viewOf is the view for an answer to a request. X-Forwarded-* headers are not read, since anybody can send them.
func (g *Gateway) viewOf(r *http.Request) *v2View {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	prefix := prefixOf(r)
	if prefix != "" {
		prefix = "/k/" + url.PathEscape(strings.TrimPrefix(prefix, "/k/"))
	}
	return &v2View{base: scheme + "://" + r.Host + prefix, age: g.q.FilesAge(), log: g.q.EventsAge()}
}

func (v *v2View) link(path string) string { return v.base + v2Prefix + path }

// never is the date that is written where the document requires one and nothing expires.
const never = 100 * 365 * 24 * time.Hour

// fileEnd is when a file that was stored at a time is removed.
func (v *v2View) fileEnd(stored time.Time) time.Time { return stored.Add(cmp.Or(v.age, never)) }

// jobEnd is when the first of what is kept of a job is removed: its workflow, or its events.
func (v *v2View) jobEnd(created time.Time) time.Time {
	return created.Add(min(cmp.Or(v.age, never), cmp.Or(v.log, never)))
}

// job is a job as its row and the last live messages show it.
func (v *v2View) job(row *Row, live *jetstream.Progress) v2Job {
	self := v.link("jobs/" + string(row.Job))
	created := createdOf(row)
	j := v2Job{
		ID: string(row.Job), Status: statusOf(row), CreatedAt: created, ExpiresAt: v.jobEnd(created), Outputs: []v2Output{},
		URLs:     v2URLs{Self: self, Events: self + "/events", Cancel: self + "/cancel"},
		Metadata: labelsOf(row), Priority: int(row.Priority),
	}
	if row.Begun() {
		started := row.Started.UTC()
		j.StartedAt = &started
		j.Metrics.QueueMS = millis(started.Sub(created))
	}
	if row.Ended() {
		ended := row.Time.UTC()
		j.CompletedAt = &ended
		v.end(&j, row)
		return j
	}
	if row.Begun() {
		j.Progress = progressOf(live)
	}
	return j
}

// end adds what the last event says.
func (v *v2View) end(j *v2Job, row *Row) {
	switch e := row.Last; e.EventKind {
	case job.Completed:
		j.Outputs, j.OutputsReused = v.outputs(row), e.OutputsReused
		j.Metrics.QueueMS, j.Metrics.ExecutionMS = millis(time.Duration(e.QueuedFor)), millis(time.Duration(e.RanFor))
		nodes := len(e.NodeTimes) + len(e.CachedNodes)
		j.Progress = &v2Progress{Value: 1, NodesDone: nodes, NodesTotal: nodes}
	case job.Dead:
		j.Error = errorOf(e)
	}
}

// millis is a duration in ms; of clocks that differ it is not negative.
func millis(d time.Duration) *int64 {
	ms := max(0, d.Milliseconds())
	return &ms
}

func createdOf(row *Row) time.Time { return time.UnixMilli(row.createTime()).UTC() }

// statusOf is a job's state in the words of the Comfy API v2. A job that has begun stays running while it waits for its next
// attempt.
func statusOf(row *Row) v2Status {
	switch {
	case row.State == job.Completed:
		return v2Succeeded
	case row.State == job.Cancelled:
		return v2Canceled
	case row.State == job.Dead && row.Last.Reason == string(failure.Expired):
		return v2Expired
	case row.State == job.Dead:
		return v2Failed
	case row.Begun():
		return v2Running
	}
	return v2Queued
}

// errorOf is why a job is dead.
func errorOf(e *job.Event) *v2JobError {
	code := string(e.Kind)
	switch {
	case e.Kind == failure.ExecutionError:
		code = "node_execution_error"
	case code == "":
		code = e.Reason
	}
	message := cmp.Or(e.Message, "the job ended: "+strings.ReplaceAll(e.Reason, "_", " "))
	if e.Exception != "" && !strings.Contains(message, e.Exception) {
		message = e.Exception + ": " + message
	}
	return &v2JobError{Code: code, Message: message, NodeID: orNull(e.Node), ClassType: orNull(e.Class)}
}

// progressOf is the progress of a running job: the nodes that are done and the part of the running one, over all nodes. Before the
// first message of its host all is zero.
func progressOf(p *jetstream.Progress) *v2Progress {
	if p == nil {
		return &v2Progress{}
	}
	part := 0.0
	if p.Max > 0 {
		part = min(1, max(0, p.Value/p.Max))
	}
	out := &v2Progress{
		NodesDone: p.NodesDone, NodesTotal: p.NodesTotal, CurrentNode: orNull(p.Node), CurrentNodeClass: orNull(p.Class),
	}
	if p.NodesTotal > 0 {
		out.Value = min(1, max(0, (float64(p.NodesDone)+part)/float64(p.NodesTotal)))
	}
	if p.Max > 0 {
		step, steps := int(p.Value), int(p.Max)
		out.Step, out.Steps = &step, &steps
	}
	if p.Class != "" && p.Max > 0 {
		out.Message = orNull(fmt.Sprintf("%s %d/%d", p.Class, int(p.Value), int(p.Max)))
	}
	return out
}

// outputs are the files and texts of a job that has completed.
func (v *v2View) outputs(row *Row) []v2Output {
	outputs := make([]v2Output, 0, len(row.Last.Outputs))
	for i := range row.Last.Outputs {
		o := &row.Last.Outputs[i]
		id := outputID(row.Job, i)
		outputs = append(outputs, v2Output{
			NodeID: o.Node, Name: outputName(o), Type: outputType(o), ContentType: contentTypeOf(o), SizeBytes: outputSize(o),
			ID: id, Hash: hashText(outputHash(o)), URL: v.link("assets/" + id + "/content"), URLExpiresAt: v.fileEnd(row.Time.UTC()), JobID: string(row.Job),
		})
	}
	return outputs
}

// outputID is the id of the asset that an output is: <job>.<index>.
func outputID(id job.ID, index int) string { return string(id) + "." + strconv.Itoa(index) }

// splitOutputID reads an id that outputID has made.
func splitOutputID(id string) (of job.ID, index int, ok bool) {
	name, number, found := strings.Cut(id, ".")
	index, err := strconv.Atoi(number)
	if !found || err != nil || index < 0 || outputID(job.ID(name), index) != id || !job.ID(name).Valid() {
		return "", 0, false
	}
	return job.ID(name), index, true
}

// inline reports whether an output is a text that is in the event and not in a file.
func inline(o *job.Output) bool { return o.Object == "" && (o.Text != "" || o.Media == "text") }

func outputSize(o *job.Output) int64 {
	if inline(o) {
		return int64(len(o.Text))
	}
	return o.Size
}

func outputName(o *job.Output) string {
	return cmp.Or(o.Filename, o.Node+".txt")
}

func contentTypeOf(o *job.Output) string {
	if inline(o) {
		return "text/plain; charset=utf-8"
	}
	return cmp.Or(o.ContentType, "application/octet-stream")
}

// outputType is the kind of an output: by its content where that says it, since nodes file videos under "gifs" and "images" too.
func outputType(o *job.Output) string {
	kind, _, _ := strings.Cut(o.ContentType, "/")
	switch {
	case kind == "image", kind == "video", kind == "audio":
		return kind
	case o.Media == "text" || kind == "text":
		return "text"
	case o.Media == "latents" || strings.HasSuffix(o.Filename, ".latent"):
		return "latent"
	case o.Media == "images":
		return "image"
	case o.Media == "gifs", o.Media == "video":
		return "video"
	case o.Media == "audio":
		return "audio"
	}
	return "file"
}
