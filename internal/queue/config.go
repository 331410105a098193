package queue

import (
	"time"
)

// Config says how the streams and buckets are made. The zero value works: a zero field keeps the setting that NATS has, and is the
// default for streams that are made, so a default never replaces what an operator has set.
type Config struct {
	Replicas    int           // of every stream and bucket; default 1
	Memory      bool          // keep everything in memory; for tests
	Compression bool          // S2 on the streams
	AckWait     time.Duration // how long a lease lives without an extension; default 30 s
	LaneCap     int           // unfinished jobs of a lane; default 10 000
	EventsAge   time.Duration // how long events are kept, and so how long an id stays taken; default 72 h
	DeadAge     time.Duration // default 30 days
	FilesAge    time.Duration // outputs and inputs; default 24 h
	MaxJob      int           // bytes of a job; default 1 MiB, and never more than NATS takes in one message
	UserFiles   int           // files of a tenant in COMFY_USERDATA; default 10 000
	UserBytes   int64         // of a tenant's files there, compressed; default a quarter of the bucket, or 64 MiB when it has no maximum
	PresenceTTL time.Duration // of hosts and dispatchers; default 15 s
	Domain      string        // JetStream domain, behind a leaf node
	APIPrefix   string        // JetStream API prefix, for an imported account
	NoConsumers bool          // follow events by direct gets and plain subscriptions, where no consumer may be made
	NoRemovals  bool          // leave files that are removed to their age, where no message may be removed
	ReadOnly    bool          // touch no stream: fail when one is missing; for programs with few permissions

	// Bytes, as JetStream counts them, of one copy. A stream that has a maximum keeps it unless another one is given here.
	Room         int64 // for all streams together, of which those without a maximum get their share; 0: none gets one; AskNATS: what NATS has room for
	MaxDisk      int64 // for all streams together, of which every one gets its share, also those that have a maximum
	JobsBytes    int64 // of COMFY_JOBS; when it is full, a publish is refused
	EventsBytes  int64 // of COMFY_EVENTS; when it is full, the oldest events are removed
	DeadBytes    int64 // of COMFY_DEAD; when it is full, the oldest letters are removed
	OutputsBytes int64 // of COMFY_OUTPUTS; when it is full, the oldest files are removed
	InputsBytes  int64 // of COMFY_INPUTS; when it is full, the oldest files are removed

	Clock func() time.Time // this machine's wall clock, for ClockOff and, until NATS' time is measured, for Now; default time.Now
	Warn  func(error)      // called with what an operator should read although nothing failed, from any goroutine; it must not block
}

const (
	defaultAckWait     = 30 * time.Second
	defaultLaneCap     = 10_000
	defaultEventsAge   = 72 * time.Hour
	defaultDeadAge     = 30 * 24 * time.Hour
	defaultFilesAge    = 24 * time.Hour
	defaultPresenceTTL = 15 * time.Second

	defaultMaxJob    = 1 << 20
	defaultUserFiles = 10_000
	defaultUserBytes = 64 << 20

	// catalogAge is how long a file of a catalogue, and the entry that names it, are kept. Agents store both again after a seventh
	// of this time.
	catalogAge = 7 * 24 * time.Hour

	liveAge   = 5 * time.Minute
	liveMost  = 4096     // messages of COMFY_LIVE
	liveBytes = 64 << 20 // of COMFY_LIVE
	// mostLetters is how many dead letters of a tenant are kept, so that one tenant's do not displace those of others.
	mostLetters = 100_000

	// markerTTL is how long a delete marker stays. It must outlive the seconds in which a watcher gets nothing after NATS restarted.
	markerTTL = 10 * time.Minute
	// jobsDuplicates is the window for duplicates of COMFY_JOBS on servers that do not allow a stream without one. All tenants share
	// it, so in a longer one a tenant could suppress another's job by using its Nats-Msg-Id first.
	jobsDuplicates = 100 * time.Millisecond
	// bucketDuplicates is the window for duplicates of a bucket, the same as nats.go gives it.
	bucketDuplicates = 2 * time.Minute
)
