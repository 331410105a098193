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

// keeper stores what must outlive the agent: that an operator has drained the host, what ails it, and which prompts
// nobody waits for. An agent that comes after a crash would otherwise send jobs to a GPU that is known to be unusable.
type keeper struct {
	mu     sync.Mutex          // guards the one below; held while it is stored
	stored queue.HostCondition // without its time
}

// keep stores the host's condition when another one stands. A crash before it forgets what was found last.
func (h *host) keep(ctx context.Context) error {
	k := &h.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	c := h.desk.condition()
	c.Prompts = h.strays.all()
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

// restore reads what an earlier agent has stored, before anybody is told of the host. It tries until NATS has answered;
// false means that ctx ended first.
func (h *host) restore(ctx context.Context) bool {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		once, cancel := context.WithTimeout(ctx, wireTimeout)
		c, err := h.q.Condition(once, h.name)
		cancel()
		if err == nil {
			h.takeOver(c)
			return true
		}
		if ctx.Err() == nil {
			h.log.Warn("cannot read what an earlier agent has stored of the host; trying again", "error", err, "in", wait)
		}
		if !queue.Pause(ctx, wait) {
			return false
		}
	}
}

func (h *host) takeOver(c queue.HostCondition) {
	c.Time = time.Time{}
	h.keeper.mu.Lock()
	h.keeper.stored = c
	h.keeper.mu.Unlock()
	h.strays.add(c.Prompts...)
	h.desk.change(func(d *desk) {
		d.drained, d.drainedBy = c.Drained, c.DrainedBy
		if slices.Contains(failure.Causes(), c.Cause) {
			d.ails.put(condition{
				cause: c.Cause, reason: c.Reason, trial: c.Trial, hashes: c.Hashes, process: c.Process, blame: c.Blame, since: time.Now(),
			})
		}
	})
	if c.Drained || c.Cause != "" {
		h.log.Info("the host is as an earlier agent has left it", "drained", c.Drained, "by", c.DrainedBy, "cause", c.Cause, "reason", c.Reason)
	}
}

// strays are prompts that may still be in ComfyUI and that nobody waits for. They are cancelled when it answers.
type strays struct {
	mu      sync.Mutex // guards the one below
	prompts []string
}

// mostStrays bounds them: a ComfyUI that is away for days is not given so many jobs.
const mostStrays = 1000

func (s *strays) add(prompts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prompts {
		if !slices.Contains(s.prompts, p) && len(s.prompts) < mostStrays {
			s.prompts = append(s.prompts, p)
		}
	}
}

func (s *strays) remove(prompt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompts = slices.DeleteFunc(s.prompts, func(p string) bool { return p == prompt })
}

// all gives a copy, nil without any.
func (s *strays) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prompts) == 0 {
		return nil
	}
	return slices.Clone(s.prompts)
}
