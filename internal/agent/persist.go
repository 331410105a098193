package agent

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// persisted is what was stored last of the state that must outlive the agent: whether an operator has drained the host, its
// lasting condition, and its orphans. Without it the next agent would run jobs on a GPU that is known to be unusable.
type persisted struct {
	mu     sync.Mutex          // guards the one below; held while it is stored
	stored queue.HostCondition // without its time
}

// persist stores the host's condition if it is not the stored one. What was found since is lost by a crash before it.
func (h *host) persist(ctx context.Context) error {
	k := &h.persisted
	k.mu.Lock()
	defer k.mu.Unlock()
	c := h.admission.condition()
	c.Prompts = h.orphans.all()
	if reflect.DeepEqual(c, k.stored) {
		return nil
	}
	stored := c
	stored.Time = h.q.Now().UTC()
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	if err := h.q.PutCondition(ctx, h.name, &stored); err != nil {
		return err
	}
	k.stored = c
	return nil
}

// restore reads what an earlier agent has stored, before the host is announced. It tries until NATS has answered; false
// means that ctx is done.
func (h *host) restore(ctx context.Context) bool {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		once, cancel := context.WithTimeout(ctx, wireTimeout)
		c, err := h.q.Condition(once, h.name)
		cancel()
		if err == nil {
			h.adopt(c)
			return true
		}
		if ctx.Err() == nil {
			h.log.Warn("cannot read the stored condition of the host; trying again", "error", err, "in", wait)
		}
		if !queue.Pause(ctx, wait) {
			return false
		}
	}
}

// adopt goes on with the condition that an earlier agent has stored.
func (h *host) adopt(c queue.HostCondition) {
	c.Time = time.Time{}
	h.persisted.mu.Lock()
	h.persisted.stored = c
	h.persisted.mu.Unlock()
	h.orphans.add(c.Prompts...)
	h.admission.change(func(d *admission) {
		d.drained, d.drainedBy = c.Drained, c.DrainedBy
		if slices.Contains(failure.Causes(), c.Cause) {
			d.conditions.put(condition{
				cause: c.Cause, reason: c.Reason, trial: c.Trial, hashes: c.Hashes, process: c.Process, blame: c.Blame, since: time.Now(),
			})
		}
	})
	if c.Drained || c.Cause != "" {
		h.log.Info("the condition that an earlier agent has stored still holds", "drained", c.Drained, "by", c.DrainedBy, "cause", c.Cause, "reason", c.Reason)
	}
}

// orphans are prompts that may still be in ComfyUI and for which no attempt waits. They are cancelled when it answers.
type orphans struct {
	mu      sync.Mutex // guards the one below
	prompts []string
}

// maxOrphans bounds the orphans. A ComfyUI gets fewer than that even when it does not answer for days.
const maxOrphans = 1000

func (s *orphans) add(prompts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prompts {
		if !slices.Contains(s.prompts, p) && len(s.prompts) < maxOrphans {
			s.prompts = append(s.prompts, p)
		}
	}
}

func (s *orphans) remove(prompt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompts = slices.DeleteFunc(s.prompts, func(p string) bool { return p == prompt })
}

// all gives a copy, nil without any.
func (s *orphans) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prompts) == 0 {
		return nil
	}
	return slices.Clone(s.prompts)
}
