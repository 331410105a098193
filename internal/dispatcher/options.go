package dispatcher

import (
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// listedBy reports whether a host of a capability is not known to lack an option of the job.
func (o *owned) listedBy(c workflow.Capability) bool { return o.options.MetBy(c) }

// setLacks finds the hosts that are known to lack an option of the job, while another that may run it is not: they are
// avoided like hosts that have failed it. It is looked up each time that the job is placed or goes to the waiting room,
// from where a ticket keeps it.
func (l *loop) setLacks(o *owned) {
	if o.lacks = nil; !l.fleet.Varied() {
		return
	}
	if !o.optionsRead {
		o.optionsRead, o.options = true, o.job.Graph.Options()
		for _, in := range o.job.Inputs {
			o.options = o.options.Without(in.Node, in.Input) // replaced by a file that the job brings along
		}
	}
	o.lacks = l.fleet.Lacking(wantOf(o), o.listedBy, lacksMost)
}

// lacksMost bounds how many hosts a job avoids because of an option: each is in its ticket. Where more lack it, one
// of them may be asked, and refuses, which costs the job nothing.
const lacksMost = 256

// avoided are the hosts that run the job only when no other can: they failed it, or lack an option of it.
func (o *owned) avoided() []string {
	if len(o.lacks) == 0 {
		return o.avoid
	}
	all := slices.Clone(o.avoid)
	for _, host := range o.lacks {
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return all
}

// addLacks adds to the verdicts of avoided hosts what they lack, if they are avoided for that.
func (l *loop) addLacks(o *owned, verdicts []route.HostVerdict) {
	for i := range verdicts {
		v := &verdicts[i]
		host := string(v.Host)
		if v.Code != route.CodeAvoid || slices.Contains(o.avoid, host) {
			continue
		}
		lacks := l.fleet.Capability(v.Host).Lacks(o.options)
		texts := make([]string, 0, len(lacks))
		for _, m := range lacks {
			texts = append(texts, m.String())
		}
		v.Text = "avoided, since other hosts have it: " + strings.Join(texts, "; ")
	}
}
