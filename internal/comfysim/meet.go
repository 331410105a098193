package comfysim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// timed says whether a class is one of those that take time.
func (c *class) timed() bool {
	return c.open || c.name == "KSampler" || c.name == "SimSleep"
}

// pickTarget is the node that faults without a class meet.
func (x *execution) pickTarget(pending []string) string {
	var first string
	for _, id := range slices.Backward(pending) {
		if x.isCached(id) {
			continue
		}
		if x.class(id).timed() {
			return id
		}
		if first == "" {
			first = id
		}
	}
	return first
}

// beginFaults applies what holds for the whole run.
func (x *execution) beginFaults() {
	for _, f := range x.faults {
		switch f.Kind {
		case FaultSlow:
			if f.Factor > 0 {
				x.slow *= f.Factor
			}
		case FaultDeaf:
			x.p.hub.deafen(x.e.client)
		case FaultStall:
			d := f.For
			if d == 0 {
				d = time.Hour
			}
			x.p.hub.stall(d)
		default: // at a node, or at the end
		}
	}
}

// poison makes every later node that uses the device fail, for as long as the process lives.
func (p *process) poison() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poisoned = true
}

func (p *process) isPoisoned() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.poisoned
}

// applyFaults applies the faults of this node.
func (x *execution) applyFaults(n *node) error {
	for _, f := range x.faults {
		if !x.at(f, n) {
			continue
		}
		if err := x.applyFault(f); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) at(f Fault, n *node) bool {
	switch {
	case f.Class != "":
		return n.className() == f.Class
	case f.Kind == FaultDiskFull:
		return x.isOutput(n.id)
	}
	return n.id == x.target
}

// applyFault applies one fault at a node.
func (x *execution) applyFault(f Fault) error {
	switch f.Kind {
	case FaultSlow, FaultDeaf, FaultStall, FaultNaN, FaultMissingOutput, FaultHistoryWiped:
		return nil
	}
	if err := x.p.sleep(f.Delay); err != nil {
		return err
	}
	switch f.Kind {
	case FaultRaise:
		name := f.Exception
		if name == "" {
			name = "RuntimeError"
		}
		return newException(name, f.Message)
	case FaultOOM:
		return newException("torch.OutOfMemoryError", f.Message)
	case FaultDiskFull:
		return newException("ENOSPC", f.Message)
	case FaultExitWorker:
		return newException("SystemExit", f.Message)
	case FaultWedge:
		return errWedged
	case FaultPoison:
		x.p.poison()
		return newException("cuda_device_assert", f.Message)
	case FaultDie:
		return x.exit(f.Restart)
	case FaultInterrupt:
		return errInterrupted
	case FaultFreeze:
		x.p.srv.freezeSoon(x.p, f.For)
		return x.p.sleep(0)
	case FaultHang, FaultHangHard:
		return x.hang(f.Kind == FaultHang)
	}
	return nil
}

func (x *execution) hang(interruptible bool) error {
	var stop <-chan struct{}
	if interruptible {
		stop = x.p.interruption()
	}
	select {
	case <-stop:
		return errInterrupted
	case <-x.p.ctx.Done():
		return errDead
	}
}

// has says whether a fault of this kind holds for the run.
func (x *execution) has(kind FaultKind) bool {
	return slices.ContainsFunc(x.faults, func(f Fault) bool { return f.Kind == kind })
}

// afterwards applies what happens right after the run has landed in the history.
func (x *execution) afterwards() {
	if x.has(FaultHistoryWiped) {
		x.p.forgetAll()
	}
}

// queueForeign queues prompts as if other clients had submitted them.
func (p *process) queueForeign(n int, each time.Duration) {
	for range n {
		p.mu.Lock()
		number := p.counter
		p.counter++
		p.mu.Unlock()
		raw := fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},`+
			`"2":{"class_type":"SimSleep","inputs":{"image":["1",0],"seconds":%g,"steps":10,"preview":"none","seed":%d}},`+
			`"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}}}`, number, each.Seconds(), number)
		g, err := parseGraph(json.RawMessage(raw))
		if err != nil {
			return
		}
		client := "stranger"
		_ = p.put(&entry{
			number: json.Number(fmt.Sprint(number)), order: float64(number), id: uuid.NewString(), graph: g, outputs: []string{"3"},
			extra: encode(map[string]any{"client_id": client, "create_time": millis()}), client: &client, created: millis(), body: raw,
		})
	}
}
