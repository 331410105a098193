package queue

import (
	"time"
)

// Config says how the streams and buckets are made. The zero value works: every zero field means "what stands
// in NATS, or the default when nothing does", so that a default never narrows what an operator widened.
type Config struct {
	Replicas    int           // of every stream and bucket; default 1
	Memory      bool          // keep everything in memory; for tests
	Compression bool          // S2 on the streams
	AckWait     time.Duration // how long a lease lives without an extension; default 30 s
	LaneCap     int           // unfinished jobs of a lane; default 10 000
	EventsAge   time.Duration // default 72 h; also the horizon of idempotent ids
	DeadAge     time.Duration // default 30 days
	FilesAge    time.Duration // outputs and inputs; default 24 h
	MaxJob      int           // bytes of a job; default 1 MiB, and never more than NATS takes in one message
	PresenceTTL time.Duration // of hosts and dispatchers; default 15 s
	Domain      string        // JetStream domain, behind a leaf node
	APIPrefix   string        // JetStream API prefix, for an imported account
	NoConsumers bool          // follow events by direct gets and plain subscriptions, where no consumer may be made
	ReadOnly    bool          // touch no stream: fail when one is missing; for programs with few permissions

	// Bytes. A stream that has a maximum keeps it unless another one is given here. In JetStream's own count, of one copy.
	Room         int64 // what all streams may hold together, each its part, when they have no maximum yet; 0 gives them none, AskNATS finds out
	MaxDisk      int64 // the same, for those that have one too
	JobsBytes    int64 // of COMFY_JOBS; beyond it a publish is refused
	EventsBytes  int64 // of COMFY_EVENTS; beyond it the oldest events go
	DeadBytes    int64 // of COMFY_DEAD; beyond it the oldest letters go
	OutputsBytes int64 // of COMFY_OUTPUTS; beyond it the oldest files go
	InputsBytes  int64 // of COMFY_INPUTS; beyond it the oldest files go

	Clock func() time.Time // this machine's wall clock; default time.Now. It only decides ClockOff and what Now is without a server
	Warn  func(error)      // called with warnings for the operator, from any goroutine; must return soon
}

const (
	defaultAckWait     = 30 * time.Second
	defaultLaneCap     = 10_000
	defaultEventsAge   = 72 * time.Hour
	defaultDeadAge     = 30 * 24 * time.Hour
	defaultFilesAge    = 24 * time.Hour
	defaultPresenceTTL = 15 * time.Second

	defaultMaxJob = 1 << 20

	liveAge   = 5 * time.Minute
	liveMost  = 4096     // messages of COMFY_LIVE
	liveBytes = 64 << 20 // of COMFY_LIVE
	// mostLetters of a tenant are kept, so that no tenant's letters displace those of others.
	mostLetters = 100_000

	// A marker must outlive the seconds in which a watcher is blind after NATS restarted.
	markerTTL = 10 * time.Minute
	// Where a stream cannot be without a window for duplicates. It is common to all tenants, so a longer one would let a
	// tenant suppress another's job by using its Nats-Msg-Id first.
	jobsDuplicates = 100 * time.Millisecond
	// What nats.go gives a bucket.
	bucketDuplicates = 2 * time.Minute
)
