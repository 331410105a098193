package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// record is what ComfyUI's history says of one prompt.
type record struct {
	Prompt  []any                      `json:"prompt"`
	Outputs map[string]json.RawMessage `json:"outputs"`
	Status  recordStatus               `json:"status"`
	Meta    json.RawMessage            `json:"meta"`
}

type recordStatus struct {
	Status    string            `json:"status_str"`
	Completed bool              `json:"completed"`
	Messages  []json.RawMessage `json:"messages"`
}

// hostRecord is a record as the host wrote it.
type hostRecord struct {
	Outputs map[string]json.RawMessage `json:"outputs"`
	Status  struct {
		Messages []json.RawMessage `json:"messages"`
	} `json:"status"`
	Meta json.RawMessage `json:"meta"`
}

// largestRecord is the most bytes of a record that is shown.
const largestRecord = 128 << 20

// recordOf is the entry in the history of a job that has ended. What the run left comes from the record that the agent has stored;
// without one, from the job's events. How the job ended is always what its last event says.
func (g *Gateway) recordOf(ctx context.Context, name job.Tenant, row *Row) (*record, error) {
	prompt, err := g.tuple(ctx, name, row)
	if err != nil {
		return nil, err
	}
	rec := &record{Prompt: prompt, Outputs: map[string]json.RawMessage{}, Meta: json.RawMessage(`{}`)}
	host, err := g.hostRecord(ctx, name, row)
	if err != nil {
		return nil, err
	}
	if host != nil {
		for node, output := range host.Outputs {
			rec.Outputs[node] = shownOutput(row.Job, output)
		}
		if present(host.Meta) {
			rec.Meta = host.Meta
		}
	} else {
		for node, output := range outputsOf(row) {
			rec.Outputs[node] = encode(output)
		}
	}
	rec.Status = endStatus(row, host)
	return rec, nil
}

// hostRecord reads what the host's history says of a job's last attempt, with the job's id in place of the prompt's; nil when there is
// no record.
func (g *Gateway) hostRecord(ctx context.Context, name job.Tenant, row *Row) (*hostRecord, error) {
	if row.Last == nil || !row.Begun() {
		return nil, nil
	}
	stored, err := g.readOutput(ctx, queue.RecordName(name, row.Job), largestRecord)
	if errors.Is(err, queue.ErrNoFile) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readRecord(stored, row.Job, row.Last.PromptID), nil
}

// readRecord reads a record; nil when it is none, or of another prompt than the one that is given.
func readRecord(stored []byte, id job.ID, prompt string) *hostRecord {
	var byPrompt map[string]json.RawMessage
	if decode(stored, &byPrompt) != nil || len(byPrompt) != 1 {
		return nil
	}
	for host, entry := range byPrompt {
		if prompt != "" && prompt != host || len(host) != promptIDLength {
			return nil
		}
		var rec hostRecord
		if json.Unmarshal(renamed(entry, host, id), &rec) != nil {
			return nil
		}
		return &rec
	}
	return nil
}

// promptIDLength is the length of a UUID, the id of every prompt that an agent submits.
const promptIDLength = 36

// renamed puts a job's id in the place of the host's id of its prompt. That is a UUID, so it occurs in no other meaning.
func renamed(message []byte, prompt string, id job.ID) []byte {
	return bytes.ReplaceAll(message, []byte(prompt), []byte(id))
}

// endStatus says how a job ended, in ComfyUI's words. The messages of the run are those of the host, but for the one that ends it.
func endStatus(row *Row, host *hostRecord) recordStatus {
	s := recordStatus{Status: "error", Messages: []json.RawMessage{}}
	if host != nil {
		for _, message := range host.Status.Messages {
			if !endMessage(message) {
				s.Messages = append(s.Messages, message)
			}
		}
	} else if row.Begun() {
		s.Messages = append(s.Messages, message("execution_start", map[string]any{"prompt_id": row.Job, "timestamp": row.Started.UnixMilli()}))
	}
	switch row.State {
	case job.Completed:
		s.Status, s.Completed = "success", true
		s.Messages = append(s.Messages, message("execution_success", map[string]any{"prompt_id": row.Job, "timestamp": row.Time.UnixMilli()}))
	case job.Cancelled:
		s.Messages = append(s.Messages, message("execution_interrupted", interruptedData(row)))
	default:
		s.Messages = append(s.Messages, message("execution_error", errorData(row, host)))
	}
	return s
}

func message(kind string, data any) json.RawMessage { return encode([]any{kind, data}) }

// endMessage reports whether a message of a record ends the run.
func endMessage(message json.RawMessage) bool {
	var parts []json.RawMessage
	var kind string
	return json.Unmarshal(message, &parts) == nil && len(parts) > 0 && json.Unmarshal(parts[0], &kind) == nil &&
		(kind == "execution_success" || kind == "execution_error" || kind == "execution_interrupted")
}

func interruptedData(row *Row) map[string]any {
	return map[string]any{
		"prompt_id": row.Job, "node_id": "", "node_type": "", "executed": []string{}, "timestamp": row.Time.UnixMilli(),
	}
}

// errorData is the body of execution_error of a job that is dead: as the host sent it, if it did; else from the event, with every
// field in place, since clients read them unchecked.
func errorData(row *Row, host *hostRecord) any {
	if host != nil {
		for _, message := range host.Status.Messages {
			var parts []json.RawMessage
			var kind string
			if json.Unmarshal(message, &parts) == nil && len(parts) > 1 && json.Unmarshal(parts[0], &kind) == nil && kind == "execution_error" {
				return parts[1]
			}
		}
	}
	e := row.Last
	kind := e.Exception
	if kind == "" {
		kind = string(e.Kind)
	}
	if kind == "" {
		kind = e.Reason
	}
	return map[string]any{
		"prompt_id": row.Job, "node_id": e.Node, "node_type": e.Class, "executed": []string{},
		"exception_message": deadText(e), "exception_type": kind, "traceback": []string{},
		"current_inputs": map[string]any{}, "current_outputs": []string{}, "timestamp": row.Time.UnixMilli(),
	}
}

// deadText says to a person why a job is dead.
func deadText(e *job.Event) string {
	if e.Message != "" {
		return e.Message
	}
	if e.Reason == string(failure.Expired) {
		return "no host could take the prompt before its time was over"
	}
	if e.Reason == string(failure.NoCapableHost) {
		return "no host of the fleet can run the prompt"
	}
	return "the prompt was given up: " + strings.ReplaceAll(e.Reason, "_", " ")
}

// getHistoryOf answers the entry of one prompt; an empty object when it is unknown or has not ended, as ComfyUI does.
func (g *Gateway) getHistoryOf(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.find(r.Context(), of, job.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	shown := map[job.ID]*record{}
	if row != nil && row.Ended() && !of.hides(row) {
		rec, err := g.recordOf(r.Context(), of.name, row)
		if err != nil {
			return err
		}
		shown[row.Job] = rec
	}
	answerJSON(w, http.StatusOK, shown)
	return nil
}

// mostRecords is how many entries of the history one answer has at most; clients page with offset.
const mostRecords = 1000

// getHistory answers the newest entries of the history, the oldest of them first.
func (g *Gateway) getHistory(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	rows := of.shownEnded()
	most := intOf(r, "max_items", 200)
	if most < 0 || most > mostRecords {
		most = mostRecords
	}
	from := intOf(r, "offset", -1)
	if from < 0 {
		from = max(0, len(rows)-most)
	}
	rows = rows[min(from, len(rows)):]
	rows = rows[:min(most, len(rows))]
	return g.answerRecords(w, r, of, rows)
}

// answerRecords answers an object of records in the order of the rows.
func (g *Gateway) answerRecords(w http.ResponseWriter, r *http.Request, of *tenant, rows []Row) error {
	a := pieces{w: w, log: g.log.With("tenant", of.name)}
	separator := "{"
	for i := range rows {
		rec, err := g.recordOf(r.Context(), of.name, &rows[i])
		if err != nil {
			return a.end("", err)
		}
		a.text(separator + strconv.Quote(string(rows[i].Job)) + ": ")
		a.value(rec)
		separator = ", "
	}
	if len(rows) == 0 {
		a.text(separator)
	}
	return a.end("}", nil)
}

// intOf is a number in the query; fallback when there is none.
func intOf(r *http.Request, name string, fallback int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		return fallback
	}
	return n
}
