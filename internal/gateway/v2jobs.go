package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// job is find for the Comfy API v2: the error is a refusal when there is no such job.
func (g *Gateway) job(ctx context.Context, of *tenant, name string) (*Row, error) {
	row, err := g.find(ctx, of, job.ID(name))
	if err == nil && row == nil {
		err = noSuch("job", name)
	}
	return row, err
}

func (g *Gateway) getJob(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.job(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	writeV2(w, http.StatusOK, g.shown(r, of, row))
	return nil
}

// shown is a job with its place in the queue and its progress.
func (g *Gateway) shown(r *http.Request, of *tenant, row *Row) v2Job {
	if row.Ended() {
		of.live.forget(row.Job)
	}
	j := g.viewOf(r).job(row, of.live.progress(row.Job))
	if j.Error != nil && row.Last.Kind == failure.ExecutionError {
		j.Error.Traceback = g.traceback(r.Context(), of, row)
	}
	if j.Status == v2Queued {
		j.QueuePosition = g.position(r.Context(), of, row.Job)
	}
	return j
}

// traceback is where a node has failed, as the record of the run has it; nil when there is no record.
func (g *Gateway) traceback(ctx context.Context, of *tenant, row *Row) *string {
	rec, err := g.hostRecord(ctx, of.name, row)
	if err != nil || rec == nil {
		return nil
	}
	for _, message := range rec.Status.Messages {
		var fault struct {
			Traceback []string `json:"traceback"`
		}
		if parts := []any{nil, &fault}; json.Unmarshal(message, &parts) == nil && len(fault.Traceback) > 0 {
			return orNull(strings.Join(fault.Traceback, ""))
		}
	}
	return nil
}

// positionTimeout bounds the question for a job's place, without which the answer is as good.
const positionTimeout = time.Second

// position is a queued job's place among all that wait, from 1; nil while the dispatchers do not say it.
func (g *Gateway) position(ctx context.Context, of *tenant, id job.ID) *int {
	ctx, cancel := context.WithTimeout(ctx, positionTimeout)
	defer cancel()
	s, err := g.q.Client(of.name).Status(ctx, id)
	if err != nil {
		return nil
	}
	return orNull(s.Position)
}

func (g *Gateway) cancelJob(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.job(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	if !row.Ended() {
		// A job that is stored and that no dispatcher has read is ended by its id, hence Force.
		_, err = g.q.Client(of.name).Cancel(r.Context(), jetstream.CancelRequest{Job: row.Job, Force: true, By: "gateway"})
		if err != nil {
			return err
		}
		if row, err = g.job(r.Context(), of, r.PathValue("id")); err != nil {
			return err
		}
	}
	writeV2(w, http.StatusOK, g.shown(r, of, row))
	return nil
}

// maxStored is the most bytes of a stored submission that are read.
const maxStored = 128 << 20

func (g *Gateway) getJobWorkflow(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.job(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	graph, err := g.workflowOf(r.Context(), of, row)
	if err != nil {
		return err
	}
	writeV2(w, http.StatusOK, v2Workflow{Workflow: graph, Format: "api"})
	return nil
}

// workflowOf reads the graph of a job as a gateway has stored it, or of a job that another program has published, while it is
// unfinished.
func (g *Gateway) workflowOf(ctx context.Context, of *tenant, row *Row) (json.RawMessage, error) {
	body, err := g.readOutput(ctx, queue.BodyName(of.name, row.Job), maxStored)
	if errors.Is(err, queue.ErrNoFile) && !row.Ended() {
		var m job.Message
		if m, err = g.q.Stored(ctx, row.Sequence); err == nil {
			body = m.Body
		}
	}
	if errors.Is(err, queue.ErrNoFile) || errors.Is(err, queue.ErrGone) { // the latter: it has ended meanwhile
		return nil, refuse(http.StatusNotFound, "not_found", "the workflow of job %s is not kept any more", row.Job)
	}
	if err != nil {
		return nil, err
	}
	spec, err := job.ParseSpec(body)
	if err != nil || !json.Valid(spec.Workflow) {
		return nil, refuse(http.StatusNotFound, "not_found", "the workflow of job %s has values that JSON lacks and cannot be shown", row.Job)
	}
	return spec.Workflow, nil
}

func (g *Gateway) listJobs(w http.ResponseWriter, r *http.Request, of *tenant) error {
	query := r.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return err
	}
	filters, err := filtersOf(query)
	if err != nil {
		return err
	}
	var after *place
	if query.Has("cursor") {
		p, err := placeOf(query.Get("cursor"))
		if err != nil {
			return err
		}
		after = &p
	}
	if err := of.rows.refresh(r.Context()); err != nil {
		return fmt.Errorf("read the jobs of tenant %s: %w", of.name, err)
	}
	writeV2(w, http.StatusOK, pageOf(of.rows.Rows(), filters, after, limit))
	return nil
}

// pageOf is the page of a list after a place: the newest jobs that have all labels of the filters.
func pageOf(rows []Row, filters map[string]string, after *place, limit int) v2List {
	rows = slices.DeleteFunc(rows, func(row Row) bool {
		return after != nil && !after.before(placeOfRow(&row)) || len(filters) > 0 && !matches(labelsOf(&row), filters)
	})
	slices.SortFunc(rows, func(a, b Row) int {
		if placeOfRow(&a).before(placeOfRow(&b)) {
			return -1
		}
		return 1 // no two jobs have the same id
	})
	list := v2List{Jobs: make([]v2Item, 0, min(limit, len(rows)))}
	for i := range rows {
		if i == limit {
			list.NextCursor = placeOfRow(&rows[i-1]).cursor()
			break
		}
		row := &rows[i]
		list.Jobs = append(list.Jobs, v2Item{
			ID: string(row.Job), Status: statusOf(row), CreateTime: createdOf(row), UpdateTime: row.Time.UTC(), Metadata: labelsOf(row),
		})
	}
	return list
}

func placeOfRow(row *Row) place { return place{createdOf(row), row.Job} }
