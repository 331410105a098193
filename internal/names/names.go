// Package names has the name of everything that comfyherd has on NATS: streams, buckets, object stores, subjects, consumers, headers
// and error codes, and the functions that build them and take them apart. No other room writes one of them out.
package names

import (
	"encoding/base64"
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

	TenantHeader       = "Comfy-Tenant"
	PriorityHeader     = "Comfy-Priority"
	HashHeader         = "Comfy-Hash"
	AttemptHeader      = "Comfy-Attempt"
	ResumeHeader       = "Comfy-Resume"
	AckWaitHeader      = "Comfy-Ack-Wait"
	LastSequenceHeader = "Comfy-Last-Sequence"
	SequenceHeader     = "Comfy-Sequence"
	ReceivedHeader     = "Comfy-Received"
	QuietHeader        = "Comfy-Quiet"
	MsgIDHeader        = "Nats-Msg-Id"
	CauseHeader        = "Comfy-Cause"
	RevisionHeader     = "Comfy-Revision"
	ContentTypeHeader  = "Content-Type"
	PartOfHeader       = "Comfy-Part-Of" // of a file's part: the file's name in base64url
	OffsetHeader       = "Comfy-Offset"  // where in the file it begins; so with the chunks of file calls
	FileHeader         = "Comfy-File"
	FileSizeHeader     = "Comfy-File-Size"
	FileDigestHeader   = "Comfy-File-Digest"
	UploadHeader       = "Comfy-Upload"
	CursorHeader       = "Comfy-Cursor"
	LastHeader         = "Comfy-Last"
	InOrderHeader      = "Comfy-In-Order"
	TimeHeader         = "Comfy-Time" // of an answer: NATS' time, as the dispatcher knows it
	StoryHeader        = "Comfy-Dead" // of a dead letter: the dead event, without metadata
	LanePriorityHeader = "Comfy-Lane-Priority"
	TruncatedHeader    = "Comfy-Truncated" // of a dead letter: the size of a body of which it has the first bytes
	StoredHeader       = "Nats-Sequence"   // of what a stream has stored and tells again
)

// Subjects, consumers and words of NATS.
const (
	APIPrefix        = "comfy.api."
	TenantPrefix     = "comfy.tenants."
	SettleConsumer   = "settle"
	AnnounceConsumer = "announce"

	AllJobEvents       = "comfy.events.jobs.>"
	FailedEvents       = "comfy.events.jobs.*.*.failed"
	CancelledEvents    = "comfy.events.jobs.*.*.cancelled"
	HostStates         = "comfy.hosts.*.state"
	BlockEventsPrefix  = "comfy.events.blocks."
	HostEventsPrefix   = "comfy.events.hosts."
	ActEventsPrefix    = "comfy.events.operator." // what somebody has changed by a call
	JobEventsPrefix    = "comfy.events.jobs."
	AllEvents          = "comfy.events.>"
	EventsPrefix       = "comfy.events."
	Appends            = "comfy.append.>" // where events are published; they are stored as allEvents
	AppendPrefix       = "comfy.append."
	AllLive            = "comfy.live.>"
	Tells              = "comfy.tell.>" // where progress goes that comes out of an account of its own; heard as allLive
	DeadSubjects       = "comfy.dead.*"
	PurgeOperation     = "PURGE"
	KvOperationHeader  = "KV-Operation"
	RollupHeader       = "Nats-Rollup"
	MarkerReasonHeader = "Nats-Marker-Reason"
	MaxAgeReason       = "MaxAge"
)

func LaneSubject(lane job.Lane) string {
	return "comfy.jobs." + string(lane.Tenant) + "." + strconv.Itoa(int(lane.Priority))
}

func PrioritySubject(p job.Priority) string { return "comfy.jobs.*." + strconv.Itoa(int(p)) }

func DispatchConsumer(p job.Priority) string { return "dispatch_" + strconv.Itoa(int(p)) }

func ChainSubject(tenant job.Tenant, id job.ID) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + ".*"
}

func EventSubject(tenant job.Tenant, id job.ID, kind job.EventKind) string {
	return JobEventsPrefix + string(tenant) + "." + string(id) + "." + string(kind)
}

func DeadSubject(tenant job.Tenant) string { return "comfy.dead." + string(tenant) }

func OfferSubject(host string) string { return "comfy.hosts." + host + ".offer" }

func ControlSubject(host string) string { return "comfy.hosts." + host + ".control" }

func StateSubject(host string) string { return "comfy.hosts." + host + ".state" }

// stateHost takes the host out of a subject that matches hostStates.
func StateHost(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, "comfy.hosts."), ".state")
}

func LiveSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.live.jobs." + string(tenant) + "." + string(id) + "." + what
}

func TellSubject(tenant job.Tenant, id job.ID, what string) string {
	return "comfy.tell.jobs." + string(tenant) + "." + string(id) + "." + what
}

func PairKey(host string, hash workflow.Hash) string { return host + "." + string(hash) }

func SplitPair(key string) (host string, hash workflow.Hash, ok bool) {
	host, rest, found := strings.Cut(key, ".")
	return host, workflow.Hash(rest), found && host != "" && rest != ""
}

// splitEventSubject takes comfy.events.jobs.<tenant>.<job>.<kind> apart.
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

// splitLane takes comfy.jobs.<tenant>.<priority> apart.
func SplitLane(subject string) (tenant string, p job.Priority, ok bool) {
	rest, found := strings.CutPrefix(subject, "comfy.jobs.")
	if !found || len(rest) < 3 || rest[len(rest)-2] != '.' {
		return "", 0, false
	}
	p = job.Priority(rest[len(rest)-1] - '0')
	return rest[:len(rest)-2], p, p.Valid()
}

// APIName is the name of the micro service that every dispatcher is.
const APIName = "comfy-dispatcher"

// added is a header that NATS has added to a stored message. It stands behind those of the same name that the publisher
// may have made up.
func Added(h map[string][]string, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func AddedUint(h map[string][]string, name string) uint64 {
	n, _ := strconv.ParseUint(Added(h, name), 10, 64)
	return n
}

func MetaSubject(store, name string) string { return "$O." + store + ".M." + FileKey(name) }

func PartsSubject(store, id string) string { return "$O." + store + ".C." + id }

func FileKey(name string) string { return base64.URLEncoding.EncodeToString([]byte(name)) }

// headroom is what a job leaves free of NATS' max_payload for the headers of an offer or a dead letter.
const Headroom = 4 << 10
