package agent

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// notRecorded are the kinds of failures after which ComfyUI has no entry of the prompt, or does not answer.
var notRecorded = []failure.Kind{
	failure.HostLost, failure.HostSick, failure.Refused, failure.Lost, failure.RejectedBusy, failure.Incapable, failure.InvalidWorkflow,
}

// readRecord reads what ComfyUI's history says of a run that has ended, when the job asks for it. Without an answer the run goes on
// without a record.
func (h *host) readRecord(ctx context.Context, a *attempt, secrets []string, ended error) {
	if !a.job.Recorded() || ctx.Err() != nil {
		return
	}
	if f, failed := errors.AsType[*failure.Failure](ended); failed && slices.Contains(notRecorded, f.Kind) {
		return
	}
	record, err := h.comfy.Record(ctx, a.prompt)
	if err != nil || record == nil {
		h.log.Warn("ComfyUI's history has no record of a run", "job", a.key, "prompt", a.prompt, "error", err)
		return
	}
	a.record = string(record)
	if len(secrets) > 0 { // without any, Replace would copy a record of up to 128 MiB all the same
		a.record = hide(secrets).Replace(a.record)
	}
}

// recordOf is the run's record as a result; nil without one.
func recordOf(a *attempt) *result {
	if a.record == "" {
		return nil
	}
	return &result{Output: comfy.Output{Node: "-", Filename: "history.json"}, text: a.record, contentType: "application/json", stored: true}
}

// storeRecord stores the record of a run that was successful, and tries until it is stored.
func (h *host) storeRecord(ctx context.Context, a *attempt) error {
	r := recordOf(a)
	if r == nil {
		return nil
	}
	file, err := h.storeUntilDone(ctx, a, r, queue.RecordName(a.tenant, a.key.job))
	h.meters.uploaded.Add(float64(file.Size))
	return err
}

// storeRecordOnce stores the record of a run that has failed; what follows from the failure does not wait for more than one try. That
// of a newer attempt, which has gone on with the job elsewhere, is not replaced.
func (h *host) storeRecordOnce(kill context.Context, a *attempt) {
	if a.record == "" || a.superseded.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(kill, wireTimeout)
	defer cancel()
	if _, err := h.q.StoreOutput(ctx, queue.RecordName(a.tenant, a.key.job), "application/json", strings.NewReader(a.record)); err != nil {
		h.log.Warn("cannot store the record of a run that has failed", "job", a.key, "error", err)
	}
}
