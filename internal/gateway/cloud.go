package gateway

import (
	"net/http"

	"github.com/comfyherd/comfyherd/internal/job"
)

// The few paths that Comfy Cloud has beside ComfyUI's, which its command line uses in place of them.

// getHistoryV2Of answers the entry of one prompt; 404 until it has ended.
func (g *Gateway) getHistoryV2Of(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.find(r.Context(), of, job.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	if row == nil || !row.Ended() || of.hides(row) {
		return &failed{http.StatusNotFound, "not_found", "the history has no such prompt, or it has not ended yet"}
	}
	rec, err := g.recordOf(r.Context(), of.name, row)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[job.ID]*record{row.Job: rec})
	return nil
}

// getHistoryV2 answers the newest entries as a list.
func (g *Gateway) getHistoryV2(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	rows := of.shownEnded()
	most := min(max(1, intOf(r, "max_items", 64)), mostRecords)
	rows = rows[max(0, len(rows)-most):]
	type entry struct {
		ID job.ID `json:"prompt_id"`
		*record
	}
	a := pieces{w: w, log: g.log.With("tenant", of.name)}
	a.text(`{"history":[`)
	for i := len(rows) - 1; i >= 0; i-- {
		rec, err := g.recordOf(r.Context(), of.name, &rows[i])
		if err != nil {
			return a.end("", err)
		}
		if i < len(rows)-1 {
			a.text(",")
		}
		a.value(entry{rows[i].Job, rec})
	}
	return a.end("]}", nil)
}

// getJobStatus answers the state of one job.
func (g *Gateway) getJobStatus(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.find(r.Context(), of, job.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	if row == nil {
		answerJSON(w, http.StatusNotFound, jobsError{"Job not found"})
		return nil
	}
	answer := map[string]any{"job_id": row.Job, "status": comfyState(row), "created_at": row.Created, "last_state_update": row.Time}
	if row.State == job.Dead {
		answer["error_message"] = deadText(row.Last)
	}
	answerJSON(w, http.StatusOK, answer)
	return nil
}

// getUser answers whose key it is.
func (g *Gateway) getUser(w http.ResponseWriter, _ *http.Request, of *tenant) error {
	answerJSON(w, http.StatusOK, map[string]string{"id": string(of.name), "status": "active"})
	return nil
}
