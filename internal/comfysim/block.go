package comfysim

// blocker is an ExecutionBlocker in the place of a value. A node that receives one is not run; the first such node sends its message,
// and passes one without a message on.
type blocker struct {
	message string
	quiet   bool
}

// blocked is the result of a node that is not run, since one of its inputs is a blocker.
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
