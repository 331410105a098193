package failure

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Lost reports whether an attempt ended because ComfyUI died or could run nothing any more, and nothing shows that the
// host was to blame.
func (a *Attempt) Lost() bool { return (a.Kind == HostLost || a.Kind == HostSick) && !a.Proven }

func losses(attempts []Attempt) []Attempt {
	var list []Attempt
	for _, a := range attempts {
		if a.Lost() {
			list = append(list, a)
		}
	}
	return list
}

// Alike reports whether two attempts ended with their hosts in the same way, so that the workflow is to blame and not
// the hosts, which may have been restarted in good order: on two hosts, at the same node, and at the same progress. Of
// nodes that report no progress, after the same time, within a tenth or half a second. The last messages of a process that
// dies are lost, so that it may have died at the node after the last one reported, or the node may be unknown: two losses
// at nodes that had just begun (half a second at most) are alike whatever the nodes are. An attempt whose prompt waited while another one ran is alike to none.
func Alike(a, b *Attempt) bool { return a.Host != b.Host && sameWay(a, b) }

// sameWay is Alike on any host.
func sameWay(a, b *Attempt) bool {
	switch {
	case !a.Lost() || !b.Lost() || a.Waited || b.Waited:
		return false
	case a.justBegun() && b.justBegun():
		return true
	case a.Node != b.Node && a.Node != "" && b.Node != "":
		return false
	case a.Progress > 0 || b.Progress > 0:
		const rounding = 1e-9
		return a.Node == b.Node && math.Abs(a.Progress-b.Progress) <= rounding
	}
	apart := (a.NodeRan - b.NodeRan).Abs()
	return apart <= max(max(a.NodeRan, b.NodeRan)/10, shortRun)
}

// shortRun is how long a node may have run to count as just begun.
const shortRun = 500 * time.Millisecond

func (a *Attempt) justBegun() bool { return a.Progress == 0 && a.NodeRan <= shortRun }

// guilt finds the loss that the last attempt is alike: of the job itself first, then of the others.
func guilt(attempts []Attempt, others []Loss) *Loss {
	last := &attempts[len(attempts)-1]
	for i := range attempts[:len(attempts)-1] {
		if Alike(&attempts[i], last) {
			return &Loss{Attempt: attempts[i]}
		}
	}
	for i := range others {
		if Alike(&others[i].Attempt, last) {
			return &others[i]
		}
	}
	return nil
}

// message sums up what ended a job on several hosts.
func message(attempts []Attempt, why Reason, guilt *Loss) string {
	last := attempts[len(attempts)-1]
	switch {
	case last.Kind == Refused:
		return words(refusals(attempts))
	case guilt != nil && guilt.Job == "":
		return fmt.Sprintf("two hosts went down in the same way%s: %s", at(known(&last, &guilt.Attempt)), words([]Attempt{guilt.Attempt, last}))
	case guilt != nil:
		return fmt.Sprintf("two hosts went down in the same way%s: %s with job %s, and %s", at(known(&last, &guilt.Attempt)), guilt.Host, guilt.Job, words([]Attempt{last}))
	case why == TakesHostsDown:
		return fmt.Sprintf("%d hosts went down while it ran, the last one: %s", len(losses(attempts)), words([]Attempt{last}))
	}
	return ""
}

// known is the one of two attempts whose node is known.
func known(a, b *Attempt) *Attempt {
	if a.Node != "" {
		return a
	}
	return b
}

func at(a *Attempt) string {
	switch {
	case a.Node == "":
		return ""
	case a.Class == "":
		return " at node " + a.Node
	}
	return fmt.Sprintf(" at node %s (%s)", a.Node, a.Class)
}

// words joins the messages of the attempts, each with its host.
func words(attempts []Attempt) string {
	texts := make([]string, 0, len(attempts))
	for _, a := range attempts {
		texts = append(texts, a.Host+": "+clip(a.Message))
	}
	return strings.Join(texts, "; ")
}

// wordsMost bounds the message of one host among several, in characters.
const wordsMost = 300

func clip(s string) string {
	n := 0
	for i := range s {
		if n++; n > wordsMost {
			return s[:i] + "…"
		}
	}
	return s
}
