package comfysim

// blocker stands for an ExecutionBlocker in the place of a value. What receives one is not run; the first node that
// does tells the message, and hands a quiet one on.
type blocker struct {
	message string
	quiet   bool
}

// blocked is what a node leaves that is not run for a blocker among its inputs.
func (x *execution) blocked(n *node) (r *result, is bool) {
	for _, name := range n.order {
		b, is := x.input(n, name).(blocker)
		if !is {
			continue
		}
		if !b.quiet {
			x.tell("execution_error", map[string]any{
				"node_id": n.id, "node_type": n.className(), "executed": append([]string{}, x.executed...),
				"exception_message": "Execution Blocked: " + b.message, "exception_type": "ExecutionBlocked",
				"traceback": []string{}, "current_inputs": []string{}, "current_outputs": []string{},
			})
		}
		r = &result{}
		for range x.class(n.id).outputs {
			r.values = append(r.values, blocker{b.message, true})
		}
		return r, true
	}
	return nil, false
}
