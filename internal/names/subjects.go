package names

import (
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// APIName is the name of the micro service that every dispatcher is.
const APIName = "comfy-dispatcher"

// Calls: the operator's, and those of a tenant, whose name stands behind the prefix.
const (
	APIPrefix    = "comfy.api."
	TenantPrefix = "comfy.tenants."
)

// Events are published to subjects below AppendPrefix, and stored and republished below EventsPrefix.
const (
	EventsPrefix      = "comfy.events."
	AllEvents         = "comfy.events.>"
	JobEventsPrefix   = "comfy.events.jobs."
	BlockEventsPrefix = "comfy.events.blocks."
	HostEventsPrefix  = "comfy.events.hosts."
	ActEventsPrefix   = "comfy.events.operator." // what somebody has changed by a call
	AllJobEvents      = "comfy.events.jobs.>"
	FailedEvents      = "comfy.events.jobs.*.*.failed"
	CancelledEvents   = "comfy.events.jobs.*.*.cancelled"

	AppendPrefix = "comfy.append."
	Appends      = "comfy.append.>"
)

// Progress is published below AllLive; out of an account of its own below Tells, which LiveStream republishes as AllLive.
const (
	AllLive    = "comfy.live.>"
	LivePrefix = "comfy.live.jobs."
	Tells      = "comfy.tell.>"
)

// Jobs of all lanes, dead letters of all tenants, states of all hosts.
const (
	AllJobs      = "comfy.jobs.>"
	DeadSubjects = "comfy.dead.*"
	HostStates   = "comfy.hosts.*.state"
)

const (
	jobsPrefix  = "comfy.jobs."
	hostsPrefix = "comfy.hosts."
	deadPrefix  = "comfy.dead."
)

// LaneSubject is where the jobs of a lane are published.
func LaneSubject(lane job.Lane) string {
	return "comfy.jobs." + string(lane.Tenant) + "." + strconv.Itoa(int(lane.Priority))
}

// LanesSubject matches all lanes of a tenant.
func LanesSubject(tenant job.Tenant) string { return "comfy.jobs." + string(tenant) + ".*" }

// PrioritySubject matches the lanes of all tenants that have a priority.
func PrioritySubject(p job.Priority) string { return "comfy.jobs.*." + strconv.Itoa(int(p)) }

// SplitLane takes comfy.jobs.<tenant>.<priority> apart.
func SplitLane(subject string) (tenant string, p job.Priority, ok bool) {
	rest, found := strings.CutPrefix(subject, jobsPrefix)
	if !found || len(rest) < 3 || rest[len(rest)-2] != '.' {
		return "", 0, false
	}
	p = job.Priority(rest[len(rest)-1] - '0')
	return rest[:len(rest)-2], p, p.Valid()
}

// EventSubject is where an event of a job is stored.
func EventSubject(tenant job.Tenant, id job.ID, kind job.EventKind) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + "." + string(kind)
}

// ChainSubject matches all events of a job.
func ChainSubject(tenant job.Tenant, id job.ID) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + ".*"
}

// AppendSubject is where an event is published that is to be stored on the given subject.
func AppendSubject(stored string) string {
	return strings.Replace(stored, EventsPrefix, AppendPrefix, 1)
}

// SplitEventSubject takes comfy.events.jobs.<tenant>.<job>.<kind> apart.
func SplitEventSubject(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 6 || parts[0] != "comfy" || parts[1] != "events" || parts[2] != "jobs" {
		return "", "", "", false
	}
	return job.Tenant(parts[3]), job.ID(parts[4]), job.EventKind(parts[5]), true
}

// JobOfEvent says of which job an event is that is stored on a subject; false when it is no job's, or its names cannot be.
func JobOfEvent(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	tenant, id, kind, ok := SplitEventSubject(subject)
	return tenant, id, kind, ok && tenant.Valid() && id.Valid()
}

// DeadSubject is where the dead letters of a tenant are stored.
func DeadSubject(tenant job.Tenant) string { return "comfy.dead." + string(tenant) }

// TenantOfLetter is the tenant of a subject that DeadSubject has made.
func TenantOfLetter(subject string) job.Tenant {
	return job.Tenant(strings.TrimPrefix(subject, deadPrefix))
}

// OfferSubject is where a host is offered jobs.
func OfferSubject(host string) string { return "comfy.hosts." + host + ".offer" }

// ControlSubject is where a host is drained and resumed.
func ControlSubject(host string) string { return "comfy.hosts." + host + ".control" }

// StateSubject is where a host's agent publishes every change of a slot.
func StateSubject(host string) string { return "comfy.hosts." + host + ".state" }

// StateHost takes the host out of a subject that matches HostStates.
func StateHost(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, hostsPrefix), ".state")
}

// LiveSubject is where progress and previews of a job are published.
func LiveSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.live.jobs." + string(tenant) + "." + string(id) + "." + what
}

// JobOfLive takes the job out of a subject that LiveSubject has made.
func JobOfLive(subject string) job.ID {
	if parts := strings.Split(subject, "."); len(parts) == 6 {
		return job.ID(parts[4])
	}
	return ""
}

// TellSubject is LiveSubject for a program in an account of its own.
func TellSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.tell.jobs." + string(tenant) + "." + string(id) + "." + what
}
