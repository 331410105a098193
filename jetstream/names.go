package jetstream

import (
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Streams.
const (
	JobsStream   = "COMFY_JOBS"
	EventsStream = "COMFY_EVENTS"
	DeadStream   = "COMFY_DEAD"
	LiveStream   = "COMFY_LIVE"
)

// Buckets (KV) and object stores.
const (
	WaitingBucket      = "COMFY_WAITING"
	BlocksBucket       = "COMFY_BLOCKS"
	StrikesBucket      = "COMFY_STRIKES"
	HostsBucket        = "COMFY_HOSTS"
	DispatchersBucket  = "COMFY_DISPATCHERS"
	CapabilitiesBucket = "COMFY_CAPABILITIES"
	ConditionsBucket   = "COMFY_CONDITIONS"
	AffinityBucket     = "COMFY_AFFINITY"
	TenantsBucket      = "COMFY_TENANTS"
	SlotsBucket        = "COMFY_SLOTS"
	GrantsBucket       = "COMFY_GRANTS"
	SecretsBucket      = "COMFY_SECRETS"
	OutputsStore       = "COMFY_OUTPUTS"
	InputsStore        = "COMFY_INPUTS"
)

// Headers.
const (
	JobIDHeader     = "Comfy-Job-Id"
	RequeueOfHeader = "Comfy-Requeue-Of"
	ReasonHeader    = "Comfy-Reason"
	LeaseHeader     = "Comfy-Lease"
	ExtraDataHeader = "Comfy-Extra-Data"

	tenantHeader       = "Comfy-Tenant"
	priorityHeader     = "Comfy-Priority"
	hashHeader         = "Comfy-Hash"
	attemptHeader      = "Comfy-Attempt"
	resumeHeader       = "Comfy-Resume"
	ackWaitHeader      = "Comfy-Ack-Wait"
	lastSequenceHeader = "Comfy-Last-Sequence"
	sequenceHeader     = "Comfy-Sequence"
	receivedHeader     = "Comfy-Received"
	quietHeader        = "Comfy-Quiet"
	msgIDHeader        = "Nats-Msg-Id"
	causeHeader        = "Comfy-Cause"
	revisionHeader     = "Comfy-Revision"
	contentTypeHeader  = "Content-Type"
	partOfHeader       = "Comfy-Part-Of" // of a file's part: the file's name in base64url
	offsetHeader       = "Comfy-Offset"  // where in the file it begins; so with the chunks of file calls
	fileHeader         = "Comfy-File"
	fileSizeHeader     = "Comfy-File-Size"
	fileDigestHeader   = "Comfy-File-Digest"
	uploadHeader       = "Comfy-Upload"
	cursorHeader       = "Comfy-Cursor"
	lastHeader         = "Comfy-Last"
	inOrderHeader      = "Comfy-In-Order"
	storedHeader       = "Nats-Sequence" // of what a stream has stored and tells again
)

const (
	settleConsumer   = "settle"
	announceConsumer = "announce"

	allJobEvents       = "comfy.events.jobs.>"
	failedEvents       = "comfy.events.jobs.*.*.failed"
	cancelledEvents    = "comfy.events.jobs.*.*.cancelled"
	hostStates         = "comfy.hosts.*.state"
	blockEventsPrefix  = "comfy.events.blocks."
	hostEventsPrefix   = "comfy.events.hosts."
	actEventsPrefix    = "comfy.events.operator." // what somebody has changed by a call
	jobEventsPrefix    = "comfy.events.jobs."
	allEvents          = "comfy.events.>"
	eventsPrefix       = "comfy.events."
	appends            = "comfy.append.>" // where events are published; they are stored as allEvents
	appendPrefix       = "comfy.append."
	allLive            = "comfy.live.>"
	tells              = "comfy.tell.>" // where progress goes that comes out of an account of its own; heard as allLive
	deadSubjects       = "comfy.dead.*"
	purgeOperation     = "PURGE"
	kvOperationHeader  = "KV-Operation"
	rollupHeader       = "Nats-Rollup"
	markerReasonHeader = "Nats-Marker-Reason"
	maxAgeReason       = "MaxAge"
)

func laneSubject(lane job.Lane) string {
	return "comfy.jobs." + string(lane.Tenant) + "." + strconv.Itoa(int(lane.Priority))
}

func prioritySubject(p job.Priority) string { return "comfy.jobs.*." + strconv.Itoa(int(p)) }

func dispatchConsumer(p job.Priority) string { return "dispatch_" + strconv.Itoa(int(p)) }

func chainSubject(tenant job.Tenant, id job.ID) string {
	return jobEventsPrefix + string(tenant) + "." + string(id) + ".*"
}

func eventSubject(tenant job.Tenant, id job.ID, kind job.EventKind) string {
	return jobEventsPrefix + string(tenant) + "." + string(id) + "." + string(kind)
}

func deadSubject(tenant job.Tenant) string { return "comfy.dead." + string(tenant) }

func offerSubject(host string) string { return "comfy.hosts." + host + ".offer" }

func controlSubject(host string) string { return "comfy.hosts." + host + ".control" }

func stateSubject(host string) string { return "comfy.hosts." + host + ".state" }

// stateHost takes the host out of a subject that matches hostStates.
func stateHost(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, "comfy.hosts."), ".state")
}

func liveSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.live.jobs." + string(tenant) + "." + string(id) + "." + what
}

func tellSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.tell.jobs." + string(tenant) + "." + string(id) + "." + what
}

func pairKey(host string, hash workflow.Hash) string { return host + "." + string(hash) }

func splitPair(key string) (host string, hash workflow.Hash, ok bool) {
	host, rest, found := strings.Cut(key, ".")
	return host, workflow.Hash(rest), found && host != "" && rest != ""
}

// splitEventSubject takes comfy.events.jobs.<tenant>.<job>.<kind> apart.
func splitEventSubject(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 6 || parts[0] != "comfy" || parts[1] != "events" || parts[2] != "jobs" {
		return "", "", "", false
	}
	return job.Tenant(parts[3]), job.ID(parts[4]), job.EventKind(parts[5]), true
}

// JobOfEvent says of which job an event is that is stored on a subject; false when it is no job's, or its names cannot be.
func JobOfEvent(subject string) (job.Tenant, job.ID, job.EventKind, bool) {
	tenant, id, kind, ok := splitEventSubject(subject)
	return tenant, id, kind, ok && tenant.Valid() && id.Valid()
}

// splitLane takes comfy.jobs.<tenant>.<priority> apart.
func splitLane(subject string) (tenant string, p job.Priority, ok bool) {
	rest, found := strings.CutPrefix(subject, "comfy.jobs.")
	if !found || len(rest) < 3 || rest[len(rest)-2] != '.' {
		return "", 0, false
	}
	p = job.Priority(rest[len(rest)-1] - '0')
	return rest[:len(rest)-2], p, p.Valid()
}
