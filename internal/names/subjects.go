package names

import (
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// APIName is the name under which every dispatcher registers its calls as a NATS micro service.
const APIName = "comfy-dispatcher"

// Prefixes of the subjects of calls.
const (
	APIPrefix    = "comfy.api."     // the operator's: comfy.api.<call>
	TenantPrefix = "comfy.tenants." // a tenant's: comfy.tenants.<tenant>.<call>
)

// Events are published to subjects below AppendPrefix, and stored and republished below EventsPrefix.
const (
	EventsPrefix      = "comfy.events."
	AllEvents         = "comfy.events.>"
	JobEventsPrefix   = "comfy.events.jobs."
	BlockEventsPrefix = "comfy.events.blocks."
	HostEventsPrefix  = "comfy.events.hosts."
	AuditEventsPrefix = "comfy.events.operator." // changes that were made by calls
	AllJobEvents      = "comfy.events.jobs.>"
	FailedEvents      = "comfy.events.jobs.*.*.failed"
	CancelledEvents   = "comfy.events.jobs.*.*.cancelled"
	StartedEvents     = "comfy.events.jobs.*.*.started"
	CompletedEvents   = "comfy.events.jobs.*.*.completed"
	DeadEvents        = "comfy.events.jobs.*.*.dead"
	AllBlockEvents    = "comfy.events.blocks.>"
	AllHostEvents     = "comfy.events.hosts.>"

	WebhookEventsPrefix = "comfy.events.webhooks." // tries to deliver events to webhooks

	AppendPrefix = "comfy.append."
	Appends      = "comfy.append.>"
)

// Progress is published below comfy.live. A host in an account of its own publishes it below comfy.tell, and LiveStream republishes
// it below comfy.live.
const (
	AllLive    = "comfy.live.>"
	LivePrefix = "comfy.live.jobs."
	Tells      = "comfy.tell.>"
)

// Jobs of all lanes, dead letters of all tenants, states of all hosts, and the same as dispatchers relay them.
const (
	AllJobs      = "comfy.jobs.>"
	DeadSubjects = "comfy.dead.*"
	HostStates   = "comfy.hosts.*.state"
	Relays       = "comfy.dispatchers.*.hosts"
)

const (
	jobsPrefix  = "comfy.jobs."
	hostsPrefix = "comfy.hosts."
	deadPrefix  = "comfy.dead."

	jobAppendsPrefix = AppendPrefix + "jobs."
)

// LaneSubject is where the jobs of a lane are published: comfy.jobs.<tenant>.<priority>.
func LaneSubject(lane job.Lane) string {
	return "comfy.jobs." + string(lane.Tenant) + "." + strconv.Itoa(int(lane.Priority))
}

// LanesSubject matches all lanes of a tenant.
func LanesSubject(tenant job.Tenant) string { return "comfy.jobs." + string(tenant) + ".*" }

// PrioritySubject matches the lanes of all tenants that have a priority.
func PrioritySubject(p job.Priority) string { return "comfy.jobs.*." + strconv.Itoa(int(p)) }

// SplitLane splits comfy.jobs.<tenant>.<priority>; false when a subject has not that form. The tenant's name is not checked.
func SplitLane(subject string) (tenant string, p job.Priority, ok bool) {
	rest, found := strings.CutPrefix(subject, jobsPrefix)
	if !found || len(rest) < 3 || rest[len(rest)-2] != '.' {
		return "", 0, false
	}
	p = job.Priority(rest[len(rest)-1] - '0')
	return rest[:len(rest)-2], p, p.Valid()
}

// EventSubject is where an event of a job is stored: comfy.events.jobs.<tenant>.<job>.<kind>. "*" matches any tenant, job or kind.
func EventSubject(tenant job.Tenant, id job.ID, kind job.EventKind) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + "." + string(kind)
}

// ChainSubject matches all events of a job.
func ChainSubject(tenant job.Tenant, id job.ID) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + ".*"
}

// TenantEvents matches the events of all jobs of a tenant.
func TenantEvents(tenant job.Tenant) string { return JobEventsPrefix + string(tenant) + ".>" }

// AppendSubject is where an event must be published so that EventsStream stores it under the given subject.
func AppendSubject(stored string) string {
	return strings.Replace(stored, EventsPrefix, AppendPrefix, 1)
}

// JobAppendSubject is the AppendSubject of an EventSubject.
func JobAppendSubject(tenant job.Tenant, id job.ID, kind job.EventKind) string {
	return jobAppendsPrefix + string(tenant) + "." + string(id) + "." + string(kind)
}

// SplitEventSubject splits comfy.events.jobs.<tenant>.<job>.<kind>; false when a subject has not that form. The names are not checked.
func SplitEventSubject(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 6 || parts[0] != "comfy" || parts[1] != "events" || parts[2] != "jobs" {
		return "", "", "", false
	}
	return job.Tenant(parts[3]), job.ID(parts[4]), job.EventKind(parts[5]), true
}

// JobOfEvent is SplitEventSubject that also checks the names: false when the tenant or the job id is not valid.
func JobOfEvent(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	tenant, id, kind, _ := SplitEventSubject(subject)
	return tenant, id, kind, tenant.Valid() && id.Valid()
}

// DeadSubject is where the dead letters of a tenant are stored.
func DeadSubject(tenant job.Tenant) string { return "comfy.dead." + string(tenant) }

// TenantOfLetter gives the tenant of a subject that DeadSubject has made.
func TenantOfLetter(subject string) job.Tenant {
	return job.Tenant(strings.TrimPrefix(subject, deadPrefix))
}

// OfferSubject is where a host is offered jobs.
func OfferSubject(host string) string { return "comfy.hosts." + host + ".offer" }

// ControlSubject is where a host is drained and resumed.
func ControlSubject(host string) string { return "comfy.hosts." + host + ".control" }

// StateSubject is where a host's agent publishes every change of a slot.
func StateSubject(host string) string { return "comfy.hosts." + host + ".state" }

// HTTPSubject is where a host's agent takes requests of pages of its ComfyUI.
func HTTPSubject(host string) string { return "comfy.hosts." + host + ".http" }

// StateHost gives the host of a subject that matches HostStates.
func StateHost(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, hostsPrefix), ".state")
}

// RelaySubject is where a dispatcher sends what it has received of the hosts that it is home to.
func RelaySubject(dispatcher string) string { return "comfy.dispatchers." + dispatcher + ".hosts" }

// RelaySender gives the dispatcher of a subject that matches Relays.
func RelaySender(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, "comfy.dispatchers."), ".hosts")
}

// FramesSubject matches the relayed messages of all jobs of a tenant.
func FramesSubject(tenant job.Tenant) string { return LiveSubject(tenant, "*", "frame") }

// LiveSubject is where live messages of a job are published; what is "progress", "preview" or "frame".
func LiveSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.live.jobs." + string(tenant) + "." + string(id) + "." + what
}

// JobOfLive gives the tenant and the job of a subject that LiveSubject has made; empty when a subject has not that form.
func JobOfLive(subject string) (job.Tenant, job.ID) {
	if parts := strings.Split(subject, "."); len(parts) == 6 {
		return job.Tenant(parts[3]), job.ID(parts[4])
	}
	return "", ""
}

// TellSubject is LiveSubject for an agent in an account of its own.
func TellSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.tell.jobs." + string(tenant) + "." + string(id) + "." + what
}
