package agent

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// minLoadTime is the shortest time that is reported: for less it is not worth waiting for a warm host.
const minLoadTime = 100 * time.Millisecond

// modelLoads is how long nodes that name model files took, by class. A node whose models ComfyUI still has is answered from
// its cache and does not run. A class of which some nodes did not run is left out, since it is not clear whose files were
// loaded.
func (a *attempt) modelLoads() []queue.ModelLoad {
	if a.result == nil || a.job == nil || a.ran < minLoadTime {
		return nil
	}
	took, missing := map[string]time.Duration{}, map[string]bool{}
	for _, id := range a.job.Graph.Nodes() {
		class := a.job.Graph.ClassOf(id)
		d, ran := a.result.NodeTimes[id]
		took[class] += d
		missing[class] = missing[class] || !ran
	}
	var all []queue.ModelLoad
	last := ""
	for _, m := range a.job.Graph.Requirements().Models { // sorted by class
		if missing[m.Class] || took[m.Class] < minLoadTime {
			continue
		}
		if m.Class != last {
			last = m.Class
			all = append(all, queue.ModelLoad{Took: job.Duration(took[m.Class])})
		}
		files := &all[len(all)-1].Files
		*files = append(*files, m.File)
	}
	return all
}
