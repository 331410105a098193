package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
)

// comfyJob is an entry of ComfyUI's /api/jobs. ComfyUI's page refuses a list in which one field of one entry has another type.
type comfyJob struct {
	ID              job.ID         `json:"id"`
	Status          string         `json:"status"`
	Priority        any            `json:"priority"`
	Created         int64          `json:"create_time"`
	Started         *int64         `json:"execution_start_time,omitempty"`
	Ended           *int64         `json:"execution_end_time,omitempty"`
	Outputs         int            `json:"outputs_count"`
	Previewable     int            `json:"previewable_outputs_count"`
	Preview         *previewOutput `json:"preview_output"`
	Error           any            `json:"execution_error"`
	WorkflowID      string         `json:"workflow_id,omitempty"`
	took            int64
	NodeOutputs     any `json:"outputs,omitempty"`
	ExecutionStatus any `json:"execution_status,omitempty"`
	Workflow        any `json:"workflow,omitempty"`
}

type previewOutput struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"`
	Node      string `json:"nodeId"`
	Media     string `json:"mediaType"`
}

// ComfyUI's states of a job.
const (
	comfyPending   = "pending"
	comfyRunning   = "in_progress"
	comfyCompleted = "completed"
	comfyFailed    = "failed"
	comfyCancelled = "cancelled"
)

var comfyStates = []string{comfyPending, comfyRunning, comfyCompleted, comfyFailed, comfyCancelled}

// comfyState is the state of a job. One that waits for its next attempt is still in progress.
func comfyState(row *Row) string {
	switch row.State {
	case job.Completed:
		return comfyCompleted
	case job.Dead:
		return comfyFailed
	case job.Cancelled:
		return comfyCancelled
	}
	if row.Begun() {
		return comfyRunning
	}
	return comfyPending
}

// comfyJobOf is a job in the list.
func comfyJobOf(row *Row) comfyJob {
	j := comfyJob{
		ID: row.Job, Status: comfyState(row), Priority: row.number(), Created: row.createTime(), WorkflowID: row.Submission.WorkflowID,
	}
	if row.Begun() {
		started := row.Started.UnixMilli()
		j.Started = &started
	}
	if !row.Ended() {
		return j
	}
	ended := row.Time.UnixMilli()
	j.Ended = &ended
	if row.Begun() {
		j.took = ended - *j.Started
	}
	for i := range row.Last.Outputs {
		o := &row.Last.Outputs[i]
		j.Outputs++
		if !slices.Contains([]string{inputFolder, outputFolder, tempFolder}, o.Type) || o.Media == "text" {
			continue
		}
		j.Previewable++
		if j.Preview == nil || j.Preview.Type == tempFolder && o.Type == outputFolder {
			j.Preview = &previewOutput{o.Filename, shownFolder(row.Job, o.Subfolder), o.Type, o.Node, o.Media}
		}
	}
	if row.State == job.Dead && row.Last.Node != "" {
		j.Error = errorData(row, nil)
	}
	return j
}

type jobsError struct {
	Error string `json:"error"`
}

// complain answers 400 in the form of /api/jobs.
func complain(w http.ResponseWriter, text string) error {
	answerJSON(w, http.StatusBadRequest, jobsError{text})
	return nil
}

// listComfyJobs answers a page of the tenant's jobs, the newest first.
func (g *Gateway) listComfyJobs(w http.ResponseWriter, r *http.Request, of *tenant) error {
	query := r.URL.Query()
	limit, offset, complaint := pageOfJobs(query.Get("limit"), query.Get("offset"))
	var wanted, unknown []string
	for state := range strings.SplitSeq(query.Get("status"), ",") {
		if state = strings.TrimSpace(state); state == "" {
			continue
		}
		wanted = append(wanted, state)
		if !slices.Contains(comfyStates, state) {
			unknown = append(unknown, state)
		}
	}
	if unknown != nil {
		complaint = "Invalid status value(s): " + strings.Join(unknown, ", ") + ". Valid values: " + strings.Join(comfyStates, ", ")
	}
	if complaint != "" {
		return complain(w, complaint)
	}
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	jobs := []comfyJob{}
	for _, row := range append(of.shownEnded(), of.rows.Unfinished()...) {
		j := comfyJobOf(&row)
		if (wanted == nil || slices.Contains(wanted, j.Status)) && (!query.Has("workflow_id") || query.Get("workflow_id") == j.WorkflowID) {
			jobs = append(jobs, j)
		}
	}
	sortJobs(jobs, query.Get("sort_by"), query.Get("sort_order"))
	total := len(jobs)
	jobs = jobs[min(offset, total):]
	jobs = jobs[:min(limit, len(jobs))]
	answerJSON(w, http.StatusOK, map[string]any{"jobs": jobs, "pagination": map[string]any{
		"offset": offset, "limit": limit, "total": total, "has_more": offset+len(jobs) < total,
	}})
	return nil
}

func sortJobs(jobs []comfyJob, by, order string) {
	slices.SortStableFunc(jobs, func(a, b comfyJob) int {
		c := cmp.Compare(a.Created, b.Created)
		if by == "execution_duration" {
			c = cmp.Compare(a.took, b.took)
		}
		if order != "asc" {
			c = -c
		}
		return c
	})
}

// pageOfJobs reads limit and offset. ComfyUI's page refuses an answer without a limit, so there always is one.
func pageOfJobs(limitText, offsetText string) (limit, offset int, complaint string) {
	limit = mostRecords
	var err error
	if limitText != "" {
		if limit, err = strconv.Atoi(limitText); err != nil || limit <= 0 {
			return 0, 0, "limit must be a positive integer"
		}
	}
	if offsetText != "" {
		if offset, err = strconv.Atoi(offsetText); err != nil {
			return 0, 0, "offset must be an integer"
		}
	}
	return min(limit, mostRecords), max(0, offset), ""
}

// getComfyJob answers one job with all that is known of it.
func (g *Gateway) getComfyJob(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.find(r.Context(), of, job.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	if row == nil || of.hides(row) {
		answerJSON(w, http.StatusNotFound, jobsError{"Job not found"})
		return nil
	}
	j, err := g.detail(r.Context(), of, row)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, j)
	return nil
}

// detail is a job with what it left and what was submitted, once it has ended.
func (g *Gateway) detail(ctx context.Context, of *tenant, row *Row) (comfyJob, error) {
	j := comfyJobOf(row)
	tuple, err := g.tuple(ctx, of.name, row)
	if err != nil {
		return j, err
	}
	j.Workflow = map[string]any{"prompt": tuple[2], "extra_data": tuple[3]}
	if !row.Ended() {
		return j, nil
	}
	rec, err := g.recordOf(ctx, of.name, row)
	if err != nil {
		return j, err
	}
	j.NodeOutputs, j.ExecutionStatus = rec.Outputs, rec.Status
	if row.State == job.Dead && len(rec.Status.Messages) > 0 {
		var last []json.RawMessage
		if json.Unmarshal(rec.Status.Messages[len(rec.Status.Messages)-1], &last) == nil && len(last) == 2 {
			j.Error = last[1]
		}
	}
	return j, nil
}

// cancelComfyJob cancels one job, whether it waits or runs.
func (g *Gateway) cancelComfyJob(w http.ResponseWriter, r *http.Request, of *tenant) error {
	cancelled, err := g.cancelAny(r, of, []string{r.PathValue("id")})
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[string]bool{"cancelled": cancelled})
	return nil
}

// cancelComfyJobs cancels jobs that are named.
func (g *Gateway) cancelComfyJobs(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := requestBody(w, r, largestCall)
	if err != nil {
		return err
	}
	var named struct {
		IDs []any `json:"job_ids"`
	}
	if decode(body, &named) != nil || named.IDs == nil {
		return complain(w, "job_ids must be a list")
	}
	var ids []string
	invalid := []any{}
	for _, given := range named.IDs {
		id, _ := given.(string)
		if uuid.Validate(id) != nil {
			invalid = append(invalid, given)
		}
		ids = append(ids, id)
	}
	if len(invalid) > 0 {
		answerJSON(w, http.StatusBadRequest, map[string]any{"error": "job_ids contains invalid id(s)", "invalid_ids": invalid})
		return nil
	}
	cancelled, err := g.cancelAny(r, of, ids)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[string]bool{"cancelled": cancelled})
	return nil
}

// cancelAny cancels those of the named jobs that have not ended, and reports whether there was one.
func (g *Gateway) cancelAny(r *http.Request, of *tenant, ids []string) (cancelled bool, err error) {
	if err := of.rows.refresh(r.Context()); err != nil {
		return false, err
	}
	for _, id := range ids {
		row, found := of.rows.Row(job.ID(id))
		if !found || row.Ended() {
			continue
		}
		if err := g.cancel(r, of, row.Job, false); err != nil {
			return cancelled, err
		}
		cancelled = true
	}
	return cancelled, nil
}
