package dispatcher

import "github.com/comfyherd/comfyherd/internal/workflow"

// listedBy reports whether a host of a capability is not known to lack an option of the job.
func (o *owned) listedBy(workflow.Capability) bool { return true }
