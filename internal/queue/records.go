package queue

import "github.com/comfyherd/comfyherd/internal/job"

// ofJob is the folder of those files of a job that no node has made. No node has the id "-".
const ofJob = "/-/"

// RecordName is the name in COMFY_OUTPUTS of what ComfyUI's history says of a job's run, as GET /history/{prompt_id} has answered it:
// an object with one member, whose name is the prompt's id on the host. It is stored before the event completed, and before each
// failed after which ComfyUI still had the entry; compare the id with the event's prompt_id. Secrets of the job's extra_data are
// replaced in it.
func RecordName(tenant job.Tenant, id job.ID) string {
	return string(tenant) + "/" + string(id) + ofJob + "history.json"
}

// BodyName is the name in COMFY_OUTPUTS under which a program that submits a job for somebody else stores what was submitted, without
// secrets and before it publishes the job.
func BodyName(tenant job.Tenant, id job.ID) string {
	return string(tenant) + "/" + string(id) + ofJob + "prompt.json"
}
