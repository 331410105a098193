package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// execInfo is how ComfyUI says how many prompts have not ended.
type execInfo struct {
	ExecInfo struct {
		QueueRemaining int `json:"queue_remaining"`
	} `json:"exec_info"`
}

func execInfoOf(remaining int) (info execInfo) {
	info.ExecInfo.QueueRemaining = remaining
	return info
}

func (g *Gateway) getPrompt(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, struct {
		execInfo
		Gateway bool `json:"comfyherd_gateway"` // an agent that is pointed here by mistake refuses to serve it (internal/comfy)
	}{execInfoOf(of.rows.remaining()), true})
	return nil
}

// getQueue answers the prompts that have not ended. One whose attempt has failed and that waits for the next counts as running.
func (g *Gateway) getQueue(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	running, pending := []Row{}, []Row{}
	for _, row := range of.rows.Unfinished() {
		if row.Begun() {
			running = append(running, row)
		} else {
			pending = append(pending, row)
		}
	}
	a := pieces{w: w, log: g.log.With("tenant", of.name)}
	a.text(`{"queue_pending":[`)
	err := g.writeTuples(r.Context(), of.name, &a, pending)
	if err == nil {
		a.text(`],"queue_running":[`)
		err = g.writeTuples(r.Context(), of.name, &a, running)
	}
	return a.end("]}", err)
}

func (g *Gateway) writeTuples(ctx context.Context, name job.Tenant, a *pieces, rows []Row) error {
	for i := range rows {
		tuple, err := g.tuple(ctx, name, &rows[i])
		if err != nil {
			return err
		}
		if i > 0 {
			a.text(",")
		}
		a.value(tuple)
	}
	return nil
}

// changeRequest is the body of POST /queue and POST /history.
type changeRequest struct {
	Clear  bool              `json:"clear"`
	Delete []json.RawMessage `json:"delete"`
}

func (c *changeRequest) ids() []job.ID {
	var ids []job.ID
	for _, raw := range c.Delete {
		var id job.ID
		if json.Unmarshal(raw, &id) == nil && id.Valid() {
			ids = append(ids, id)
		}
	}
	return ids
}

func readChange(w http.ResponseWriter, r *http.Request) (c changeRequest, err error) {
	body, err := requestBody(w, r, largestCall)
	if err != nil {
		return c, err
	}
	if decode(body, &c) != nil {
		return c, malformed(`send {"clear": true} or {"delete": ["id", …]}`)
	}
	return c, nil
}

// largestCall is the most bytes of a body that only names things.
const largestCall = 4 << 20

// postQueue cancels prompts that no host has begun: those that are named, or all. A prompt that runs is left alone.
func (g *Gateway) postQueue(w http.ResponseWriter, r *http.Request, of *tenant) error {
	change, err := readChange(w, r)
	if err != nil {
		return err
	}
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	ids := change.ids()
	if change.Clear {
		for _, row := range of.rows.Unfinished() {
			ids = append(ids, row.Job)
		}
	}
	for _, id := range ids {
		if row, found := of.rows.Row(id); found && !row.Ended() && !row.Begun() {
			if err := g.cancel(r, of, id, true); err != nil {
				return err
			}
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// postInterrupt cancels the prompt that is named, if it runs; without a name all of the tenant that run. ComfyUI runs one.
func (g *Gateway) postInterrupt(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := requestBody(w, r, largestCall)
	if err != nil {
		return err
	}
	var named struct {
		ID job.ID `json:"prompt_id"`
	}
	_ = decode(body, &named) // ComfyUI takes any body; what is no JSON names no prompt
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	for _, row := range of.rows.Unfinished() {
		if row.Begun() && (named.ID == "" || named.ID == row.Job) {
			if err := g.cancel(r, of, row.Job, false); err != nil {
				return err
			}
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// cancel ends a job and returns when its end is stored. spare leaves one alone that runs by now.
func (g *Gateway) cancel(r *http.Request, of *tenant, id job.ID, spare bool) error {
	row, _ := of.rows.Row(id)
	_, _, err := g.q.End(r.Context(), of.name, id, queue.Cancelling{
		By: "tenant " + string(of.name) + ", through the gateway", Force: true, Stored: true, Spare: spare, Priority: row.Priority,
	})
	if _, gone := errors.AsType[*jetstream.NotFound](err); gone {
		return nil
	}
	return err
}

// postHistory removes entries from what the tenant sees of its history: those that are named, or all.
func (g *Gateway) postHistory(w http.ResponseWriter, r *http.Request, of *tenant) error {
	change, err := readChange(w, r)
	if err != nil {
		return err
	}
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	if err := g.hide(r.Context(), of, change.Clear, change.ids()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// postFree answers a wish to free memory, which concerns hosts that other tenants use too, so nothing is done.
func (g *Gateway) postFree(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	w.WriteHeader(http.StatusOK)
	return nil
}
