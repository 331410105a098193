package agent

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// findTimeout leaves room within the 2 s that a dispatcher waits.
const findTimeout = 1700 * time.Millisecond

// answer decides about one offer without blocking. Only a resume of a prompt that is not known here has to ask
// ComfyUI first, on a goroutine of its own.
func (h *host) answer(ctx context.Context, o queue.Offer, reply func(queue.Reply)) {
	offer := &o // the run keeps it
	if offer.Resume && h.admission.unknown(offer, func() { h.work.Go(func() { h.answerResume(ctx, offer, reply) }) }) {
		return
	}
	h.decide(ctx, offer, h.prompts.of(offer, h.q.Created()), reply)
}

// decide reserves a slot or refuses. Order of effects: reserve, answer, broadcast, start the attempt. After a crash in
// between, the lease runs out; started has not been appended, so that the job is routed anew. The lease is some
// milliseconds old and is extended with all others within a third of its AckWait.
func (h *host) decide(ctx context.Context, o *queue.Offer, prompt string, reply func(queue.Reply)) {
	v := h.admission.decide(o, func() *run {
		work, end := context.WithCancelCause(ctx)
		r := newRun(o, prompt, h.q.Now(), end)
		h.work.Go(func() { h.runAttempt(ctx, work, r) })
		return r
	})
	h.meters.answered(string(v.answer))
	if v.answer == queue.Accepted {
		if int64(o.AckWait/3) < h.extendEvery.Load() {
			signal(h.extendNow)
		}
	}
	reply(queue.Reply{Answer: v.answer, Reason: v.reason, State: h.admission.state()})
	if v.fresh != nil {
		h.broadcastWithin(max(o.Quiet, broadcastPause))
	}
}

// answerResume accepts the attempt if ComfyUI still has its prompt. While ComfyUI is slow or was not probed yet, the answer
// is Busy, and the job is offered again a little later. A prompt that may go on after a refusal is remembered as an
// orphan, so that it is stopped.
func (h *host) answerResume(ctx context.Context, o *queue.Offer, reply func(queue.Reply)) {
	find, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	prompt := h.resumed(find, o)
	state, err := h.comfy.Find(find, prompt)
	refusal := queue.Reply{Answer: queue.NotThere, Reason: "ComfyUI does not have the prompt any more"}
	switch {
	case err == nil && state != comfy.Unknown:
		h.decide(ctx, o, prompt, reply)
		return
	case err != nil && ctx.Err() != nil:
		return
	case errors.Is(err, context.DeadlineExceeded) && (!h.looked.Load() || !h.admission.has(failure.Down)):
		refusal = queue.Reply{Answer: queue.Busy, Reason: "ComfyUI is slow to say whether it has the prompt"}
	case err != nil:
		refusal.Reason = "ComfyUI does not answer: " + comfy.Reason(err)
		h.orphan(prompt)
		if err := h.persist(ctx); err != nil { // before the answer: after it no other process has a record of the prompt
			h.log.Warn("cannot store that a prompt must be stopped once ComfyUI answers", "prompt", prompt, "error", err)
		}
	}
	h.meters.answered(string(refusal.Answer))
	h.log.Warn("cannot resume a job", "job", keyOf(o), "reason", refusal.Reason)
	refusal.State = h.admission.state()
	reply(refusal)
}
