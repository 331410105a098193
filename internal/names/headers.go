package names

import "strconv"

// Headers of jobs, offers, events and dead letters.
const (
	JobIDHeader        = "Comfy-Job-Id"
	RequeueOfHeader    = "Comfy-Requeue-Of"
	ReasonHeader       = "Comfy-Reason"
	LeaseHeader        = "Comfy-Lease"
	ExtraDataHeader    = "Comfy-Extra-Data" // of a dead letter: the names of the members of the job's extra_data
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
	FreeSlotHeader     = "Comfy-Free-Slot"
	CauseHeader        = "Comfy-Cause"
	RevisionHeader     = "Comfy-Revision"
	TimeHeader         = "Comfy-Time" // of an answer: NATS' time, as the dispatcher has measured it
	StoryHeader        = "Comfy-Dead" // of a dead letter: the dead event, without metadata
	LanePriorityHeader = "Comfy-Lane-Priority"
	TruncatedHeader    = "Comfy-Truncated" // of a dead letter with only the first bytes of the body: the size of the whole body
	DigestHeader       = "Comfy-Digest"    // of what a host can run: SHA-256 in hexadecimal
	ContentTypeHeader  = "Content-Type"
	TraceparentHeader  = "traceparent" // of a job: W3C Trace Context
)

// Traceparent reads TraceparentHeader. It also takes the name with a capital, as programs write it that use NATS' headers like those
// of HTTP: to NATS these are two names.
func Traceparent(h map[string][]string) string {
	for _, name := range []string{TraceparentHeader, "Traceparent"} {
		if values := h[name]; len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// Headers of the messages of ComfyUI that a job's agent relays. AttemptHeader says of which attempt.
const (
	FrameHeader     = "Comfy-Frame"      // its number within the attempt, from 1
	FrameKindHeader = "Comfy-Frame-Kind" // TextFrame or BinaryFrame
	FramePartHeader = "Comfy-Frame-Part" // of a message that is too large for one of NATS: "2/3" is the second of three parts
)

// Values of FrameKindHeader.
const (
	TextFrame   = "text"
	BinaryFrame = "binary"
)

// Headers of files, their parts, and the calls that carry pieces of them.
const (
	PartOfHeader     = "Comfy-Part-Of" // of a part: the file's name as FileKey writes it
	OffsetHeader     = "Comfy-Offset"  // where in the file a part or piece begins
	FileHeader       = "Comfy-File"
	FileSizeHeader   = "Comfy-File-Size"
	FileDigestHeader = "Comfy-File-Digest"
	UploadHeader     = "Comfy-Upload"
	CursorHeader     = "Comfy-Cursor"
	LastHeader       = "Comfy-Last"
	InOrderHeader    = "Comfy-In-Order"
	StatusHeader     = "Comfy-Status" // of a page: the HTTP status
)

// Headers that NATS reads or writes.
const (
	MsgIDHeader        = "Nats-Msg-Id"
	StoredHeader       = "Nats-Sequence" // of a message that a stream republishes: its sequence there
	RollupHeader       = "Nats-Rollup"
	KVOperationHeader  = "KV-Operation"
	MarkerReasonHeader = "Nats-Marker-Reason"
)

// Values of the last two headers.
const (
	PurgeOperation = "PURGE"  // of KVOperationHeader: the key was removed
	MaxAgeReason   = "MaxAge" // of MarkerReasonHeader: the key has expired
)

// Added is the value of a header that NATS adds to a stored message. NATS adds it after headers of the same name that the publisher
// may have set, so the last one counts; empty when there is none.
func Added(h map[string][]string, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// AddedUint is Added for a number; 0 when there is none.
func AddedUint(h map[string][]string, name string) uint64 {
	n, _ := strconv.ParseUint(Added(h, name), 10, 64)
	return n
}
