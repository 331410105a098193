package comfysim

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

var jobStatuses = [...]string{"pending", "in_progress", "completed", "failed", "cancelled"}

// job is one line of /api/jobs.
type job struct {
	id, status string
	created    int64
	took       int64
	workflow   string
	fields     map[string]any
	record     *record // nil until it ended
}

func waitingJob(e *entry, status string) job {
	fields := map[string]any{
		"id": e.id, "status": status, "priority": e.number, "create_time": e.created,
		"outputs_count": 0, "previewable_outputs_count": 0,
	}
	if e.workflowID != "" {
		fields["workflow_id"] = e.workflowID
	}
	return job{id: e.id, status: status, created: e.created, workflow: e.workflowID, fields: fields}
}

// endedJob is a finished job without what only /api/jobs/{id} shows.
func endedJob(r *record) job {
	j := waitingJob(r.entry, r.status)
	j.record, j.took = r, r.end-r.start
	j.fields["execution_start_time"], j.fields["execution_end_time"] = r.start, r.end
	count := 0
	for _, id := range r.order {
		ui, _ := r.outputs[id].(map[string]any)
		for media, value := range ui {
			files, _ := value.([]any)
			count += len(files)
			if first, ok := firstFile(files); ok && j.fields["preview_output"] == nil {
				j.fields["preview_output"] = map[string]any{
					"filename": first["filename"], "subfolder": first["subfolder"], "type": first["type"], "nodeId": id, "mediaType": media,
				}
			}
		}
	}
	j.fields["outputs_count"], j.fields["previewable_outputs_count"] = count, count
	if r.failure != nil {
		j.fields["execution_error"] = r.failure
	}
	return j
}

func firstFile(files []any) (map[string]any, bool) {
	if len(files) == 0 {
		return nil, false
	}
	first, ok := files[0].(map[string]any)
	return first, ok
}

// allJobs takes the backlog first and the history second, so that a job that moves meanwhile is seen.
func (p *process) allJobs() (jobs []job, broken bool) {
	running, pending := p.snapshot()
	if running != nil {
		jobs = append(jobs, waitingJob(running, "in_progress"))
	}
	for _, e := range pending {
		jobs = append(jobs, waitingJob(e, "pending"))
	}
	for _, r := range p.records() {
		broken = broken || r.broken || r.entry.pngNull
		jobs = append(jobs, endedJob(r))
	}
	return jobs, broken
}

func (p *process) getJobs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, offset, complaint := paging(q.Get("limit"), q.Get("offset"))
	var wanted []string
	if s := q.Get("status"); s != "" {
		wanted = strings.Split(s, ",")
	}
	var unknown []string
	for _, s := range wanted {
		if !slices.Contains(jobStatuses[:], s) {
			unknown = append(unknown, s)
		}
	}
	if unknown != nil {
		complaint = "Invalid status value(s): " + strings.Join(unknown, ", ") + ". Valid values: " + strings.Join(jobStatuses[:], ", ")
	}
	if complaint != "" {
		answer(w, http.StatusBadRequest, map[string]any{"error": complaint})
		return
	}
	jobs, broken := p.allJobs()
	if broken {
		trouble(w)
		return
	}
	jobs = slices.DeleteFunc(jobs, func(j job) bool {
		return wanted != nil && !slices.Contains(wanted, j.status) || q.Has("workflow_id") && j.workflow != q.Get("workflow_id")
	})
	sortJobs(jobs, q.Get("sort_by"), q.Get("sort_order"))
	writeJobs(w, jobs, limit, offset)
}

func sortJobs(jobs []job, by, order string) {
	slices.SortStableFunc(jobs, func(a, b job) int {
		c := cmp.Compare(a.created, b.created)
		if by == "execution_duration" {
			c = cmp.Compare(a.took, b.took)
		}
		if order != "asc" {
			c = -c
		}
		return c
	})
}

func writeJobs(w http.ResponseWriter, jobs []job, limit, offset int) {
	total, page := len(jobs), jobs[min(offset, len(jobs)):]
	var shown any
	if limit > 0 {
		page, shown = page[:min(limit, len(page))], limit
	}
	list := []map[string]any{}
	for _, j := range page {
		list = append(list, j.fields)
	}
	answer(w, http.StatusOK, map[string]any{"jobs": list, "pagination": map[string]any{
		"offset": offset, "limit": shown, "total": total, "has_more": offset+len(page) < total,
	}})
}

func paging(limit, offset string) (l, o int, complaint string) {
	var err error
	if limit != "" {
		if l, err = strconv.Atoi(limit); err != nil || l <= 0 {
			return 0, 0, "limit must be a positive integer"
		}
	}
	if offset != "" {
		if o, err = strconv.Atoi(offset); err != nil {
			return 0, 0, "offset must be an integer"
		}
	}
	return l, max(o, 0), ""
}

// getJob finds a job by id: running, pending, then history.
func (p *process) getJob(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	running, pending := p.snapshot()
	found := p.record(id)
	switch {
	case running != nil && running.id == id:
		answer(w, http.StatusOK, waitingJob(running, "in_progress").fields)
	case found != nil: // an id used again shows the old entry while the new one is pending
		if found.broken {
			trouble(w)
			return
		}
		answer(w, http.StatusOK, found.detail())
	default:
		i := slices.IndexFunc(pending, func(e *entry) bool { return e.id == id })
		if i < 0 {
			answer(w, http.StatusNotFound, map[string]any{"error": "Job not found"})
			return
		}
		answer(w, http.StatusOK, waitingJob(pending[i], "pending").fields)
	}
}

func (r *record) detail() map[string]any {
	fields := endedJob(r).fields
	fields["outputs"], fields["execution_status"] = r.outputs, r.statusBlock()
	fields["workflow"] = map[string]any{"prompt": r.entry.graph.raw, "extra_data": r.entry.extra}
	return fields
}

// cancel removes a pending job or interrupts the running one, and reports whether it did either.
func (p *process) cancelID(id string) bool {
	return p.remove(id) || p.interrupt(id)
}

func (p *process) cancelJob(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"cancelled": p.cancelID(r.PathValue("id"))})
}

func (p *process) cancelJobs(w http.ResponseWriter, r *http.Request) {
	do, ok := command(w, r)
	if !ok {
		return
	}
	list, isList := do["job_ids"].([]any)
	if !isList {
		answer(w, http.StatusBadRequest, map[string]any{"error": "job_ids must be a list"})
		return
	}
	invalid := []any{}
	for _, v := range list {
		if _, err := uuid.Parse(pythonText(v)); err != nil {
			invalid = append(invalid, v)
		}
	}
	if len(invalid) > 0 {
		answer(w, http.StatusBadRequest, map[string]any{"error": "job_ids contains invalid id(s)", "invalid_ids": invalid})
		return
	}
	cancelled := false
	for _, v := range list {
		cancelled = p.cancelID(pythonText(v)) || cancelled
	}
	answer(w, http.StatusOK, map[string]any{"cancelled": cancelled})
}
