package comfysim

import (
	"errors"
	"time"
)

// How a run can end other than by an exception.
var (
	errDead        = errors.New("the process died")
	errInterrupted = errors.New("interrupted")
	errWedged      = errors.New("the worker thread died")
)

// workLoop is ComfyUI's prompt_worker: one prompt at a time. It ends with the process, or when a prompt wedges it.
func (p *process) workLoop() {
	for {
		if p.sleep(0) != nil {
			return
		}
		p.applyFree()
		if e := p.take(); e != nil {
			if err := p.work(e); err != nil {
				return
			}
			continue
		}
		select {
		case <-p.wake:
		case <-p.ctx.Done():
			return
		}
	}
}

// applyFree does what POST /free asked for, between prompts.
func (p *process) applyFree() {
	p.mu.Lock()
	models, memory := p.freeModels || p.freeMemory, p.freeMemory
	p.freeModels, p.freeMemory = false, false
	p.mu.Unlock()
	if models {
		p.loaded = ""
	}
	if memory {
		p.cache.reset()
	}
}

// work runs one prompt to its end: messages, history, status, end marker, in this order. It fails when there is no
// worker any more.
func (p *process) work(e *entry) error {
	x := newExecution(p, e)
	run := p.srv.began(e)
	x.run = run
	start := time.Now()
	err := x.execute()
	var raised *exception
	switch {
	case errors.Is(err, errDead):
		p.srv.ended(run, Died)
		return err
	case errors.Is(err, errWedged), errors.As(err, &raised) && raised.fatal:
		p.wedge(raised)
		p.srv.ended(run, Wedged)
		return errWedged
	}
	p.finish(x.conclude(err))
	x.afterwards()
	p.logf("Prompt executed in %.2f seconds", time.Since(start).Seconds())
	if e.client != nil {
		p.hub.send(e.client, "executing", map[string]any{"node": nil, "prompt_id": e.id})
	}
	p.hub.at("")
	p.srv.ended(run, outcome(err))
	return nil
}

func outcome(err error) Outcome {
	switch {
	case err == nil:
		return Succeeded
	case errors.Is(err, errInterrupted):
		return Interrupted
	}
	return Failed
}

// wedge leaves the traces of a dead worker thread; the prompt stays in queue_running. Python writes the exception that
// ended a thread to the log, in pieces, but for a SystemExit: that leaves no trace.
func (p *process) wedge(raised *exception) {
	text := "comfy_execution.graph.NodeNotFoundError: Node 77 not found"
	if raised != nil {
		text = raised.kind + ": " + raised.message
	}
	p.mu.Lock()
	p.wedged = true
	p.mu.Unlock()
	if raised != nil && raised.kind == "SystemExit" {
		return
	}
	p.log("Exception in thread ", "Thread-2 (prompt_worker)", ":\n", "Traceback (most recent call last):\n",
		"  File \"/usr/lib/python3.13/threading.py\", line 1043, in _bootstrap_inner\n    self.run()\n",
		"  File \"/srv/comfyui/main.py\", line 300, in prompt_worker\n    e.execute(item[2], prompt_id, extra_data, item[4])\n", text, "\n")
}
