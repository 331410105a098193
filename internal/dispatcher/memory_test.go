package dispatcher_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	ackWait     = 30 * time.Second
	presenceTTL = 15 * time.Second
	eventsAge   = 72 * time.Hour
)

// memory is a connection to a NATS in memory, for dispatchers and agents in a bubble of testing/synctest. Each dispatcher
// has one of its own, so that one can die alone. Every effect is noted, and can be cut: see memory_cuts_test.go.
type memory struct {
	*server
	dispatcher.Wire // nil: what no test uses
	cutting
	mute, deaf  atomic.Bool  // relays are lost on the way out, or in
	slotsTold   atomic.Int64 // changes of tenants' slots that its watch has reported
	relayed     atomic.Int64 // relays that were received
	ticketsTold atomic.Int64 // changes of tickets that its watch has reported
	ticketReads atomic.Int64 // times that changes of tickets were read
	reports     atomic.Int64 // states of hosts that were received from agents and presences
}

// server is what the connections have in common.
type server struct {
	mu       sync.Mutex // guards all below
	jobs     map[uint64]*stored
	last     uint64           // sequence of the newest job
	order    [10][]uint64     // sequences of jobs by priority; some may be gone
	links    map[string][]int // places in events, by tenant and job
	made     time.Time        // when the stream of events was made
	events   []queue.Link     // the one at i has the chain sequence i+1; of a job that was removed it has no kind
	buckets  map[string]*bucket
	agents   map[string]func(*queue.Offer) (queue.Reply, error)
	states   map[int]func(queue.HostState)
	cancels  map[int]func(job.Event)
	relays   map[int]func(queue.Relay)
	starts   map[int]func(host string)
	tallies  map[int]func(jetstream.Note)
	letters  map[uint64]queue.DeadLetter
	buried   map[string]uint64 // letters by the message ids that tell repeated ones
	settles  settling
	files    map[string]workflowFile
	seen     map[string]queue.HostEventKind // the last event of each host
	webhooks webhookStore
	api      queue.API
	acts     []queue.AuditRecord
	watches  int
	changed  chan struct{} // closed at the next event
	stirred  chan struct{} // closed when jobs have changed

	effects []string
	times   []time.Time               // of effects
	cut     func(effect string) error // asked before each of every connection; an error keeps it from happening
	away    bool                      // not connected
	off     time.Duration             // of the machine's clock

	hostsLater  time.Duration // how long the watch of hosts takes to begin
	ackWait     time.Duration
	presenceTTL time.Duration
}

// stored is a job in the stream.
type stored struct {
	message job.Message
	lease   queue.Lease
	count   int       // of deliveries
	until   time.Time // it is not delivered before
}

// bucket has the changes of keys by name; a revision of 0 in a deleted one's place is none.
type bucket struct {
	keys     map[string]queue.Entry
	watchers map[int]func(queue.Entry)
	revision uint64
	made     time.Time
}

func newMemory() *memory {
	return &memory{server: &server{
		jobs: map[uint64]*stored{}, buckets: map[string]*bucket{}, agents: map[string]func(*queue.Offer) (queue.Reply, error){},
		states: map[int]func(queue.HostState){}, cancels: map[int]func(job.Event){}, relays: map[int]func(queue.Relay){}, starts: map[int]func(string){}, tallies: map[int]func(jetstream.Note){}, letters: map[uint64]queue.DeadLetter{},
		changed: make(chan struct{}), stirred: make(chan struct{}), links: map[string][]int{}, buried: map[string]uint64{},
		settles: newSettling(), webhooks: newWebhookStore(), files: map[string]workflowFile{}, ackWait: ackWait, presenceTTL: presenceTTL,
	}}
}

// connect makes another connection.
func (m *memory) connect() *memory { return &memory{server: m.server} }

// stir wakes all that wait for jobs. mu is held.
func (m *memory) stir() {
	close(m.stirred)
	m.stirred = make(chan struct{})
}

func (m *memory) Now() time.Time             { return time.Now().Add(-m.off).Round(0) }
func (m *memory) ClockOff() time.Duration    { return m.off }
func (m *memory) AckWait() time.Duration     { return m.ackWait }
func (m *memory) PresenceTTL() time.Duration { return m.presenceTTL }
func (m *memory) EventsAge() time.Duration   { return eventsAge }
func (m *memory) Created() time.Time         { return time.Unix(1_700_000_000, 0) }
func (m *memory) TooLarge(int) string        { return "" }
func (m *memory) JobsRoom() int64            { return 0 }
func (m *memory) AnswerBytes() int           { return 8 << 10 }

func (m *memory) Connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.away
}

// publish stores a job and gives its sequence.
func (m *memory) publish(message job.Message) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.publishHeld(message)
}

// publishHeld is publish when mu is held.
func (m *memory) publishHeld(message job.Message) uint64 {
	m.last++
	message.Sequence, message.Received, message.StreamCreated = m.last, m.Now(), noon
	m.jobs[m.last] = &stored{message: message}
	m.order[message.Priority] = append(m.order[message.Priority], m.last)
	m.stir()
	return m.last
}

// remove deletes a job as an operator does.
func (m *memory) remove(sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, sequence)
}

// leaseOf is the lease of a job's nth delivery, in JetStream's form.
func leaseOf(sequence, n int) queue.Lease {
	return queue.Lease(fmt.Sprintf("$JS.ACK.COMFY_JOBS.dispatch_5.%d.%d.1.1.0", n, sequence))
}

// byLease finds a job. mu is held.
func (m *memory) byLease(lease queue.Lease) *stored {
	var sequence uint64
	var n int
	if _, err := fmt.Sscanf(string(lease), "$JS.ACK.COMFY_JOBS.dispatch_5.%d.%d.", &n, &sequence); err == nil && m.jobs[sequence] != nil && m.jobs[sequence].lease == lease {
		return m.jobs[sequence]
	}
	return &stored{} // acked already
}

func (m *memory) Stored(_ context.Context, sequence uint64) (message job.Message, err error) {
	found := false
	err = m.read(func() {
		if s := m.jobs[sequence]; s != nil {
			message, found = s.message, true
		}
	}, "read %d", sequence)
	if err == nil && !found {
		err = fmt.Errorf("read job %d: %w", sequence, queue.ErrGone)
	}
	return message, err
}

func (m *memory) NextStored(_ context.Context, tenant job.Tenant, lane *job.Priority, after uint64) (job.Message, bool, error) {
	if err := m.cutHere(fmt.Sprintf("read behind %d", after)); err != nil {
		return job.Message{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for sequence := after + 1; sequence <= m.last; sequence++ {
		if s := m.jobs[sequence]; s != nil && s.message.Tenant == string(tenant) && (lane == nil || s.message.Priority == *lane) {
			return s.message, true, nil
		}
	}
	return job.Message{}, false, nil
}

func (m *memory) Depth(context.Context) (map[job.Lane]uint64, error) {
	if err := m.cutHere("count the lanes"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lanes := map[job.Lane]uint64{}
	for _, s := range m.jobs {
		lanes[job.Lane{Tenant: job.Tenant(s.message.Tenant), Priority: s.message.Priority}]++
	}
	return lanes, nil
}

// rest has a job come again after a while. mu is held.
func (m *memory) rest(lease queue.Lease, d time.Duration) {
	m.byLease(lease).until = time.Now().Add(d)
	m.stir()
}

func (m *memory) Extend(lease queue.Lease) error {
	return lightly(m.write(func() { m.rest(lease, m.ackWait) }, "extend %s", lease))
}

func (m *memory) ExtendSurely(_ context.Context, lease queue.Lease) error {
	return m.write(func() { m.rest(lease, m.ackWait) }, "secure %s", lease)
}

func (m *memory) Park(lease queue.Lease, d time.Duration) error {
	return lightly(m.write(func() { m.rest(lease, d) }, "park %s", lease))
}

func (m *memory) FinishSoon(lease queue.Lease) error {
	return lightly(m.write(func() { m.drop(m.byLease(lease).message.Sequence) }, "ack %s", lease))
}

func (m *memory) Erase(_ context.Context, sequence uint64) error {
	return m.write(func() { m.drop(sequence) }, "erase %d", sequence)
}

func (m *memory) DropAPIKeys(_ context.Context, tenant job.Tenant, id job.ID) error {
	return m.write(func() {}, "drop keys %s/%s", tenant, id)
}

// drop takes a job out of the stream. mu is held.
func (m *memory) drop(sequence uint64) {
	delete(m.jobs, sequence)
	m.stir()
}

// pulling takes deliveries of one priority.
type pulling struct {
	m    *memory
	p    job.Priority
	take func(queue.Delivery)
}

func (m *memory) Puller(p job.Priority, take func(queue.Delivery)) (dispatcher.Puller, error) {
	return &pulling{m, p, take}, nil
}

func (p *pulling) Close() {}

func (p *pulling) Pull(ctx context.Context, n int, wait time.Duration) (came int, err error) {
	if err := p.m.read(func() {}, "pull"); err != nil {
		return 0, err
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for came < n && !p.m.dead.Load() {
		d, found, changed, next := p.m.deliver(p.p)
		if found {
			came++
			p.take(d)
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-changed:
		case <-timer.C:
		case <-over.C:
			timer.Stop()
			return came, nil
		case <-ctx.Done():
			timer.Stop()
			return came, ctx.Err()
		}
		timer.Stop()
	}
	return came, nil
}

// deliver gives the oldest job that may be delivered, or when to look again.
func (m *memory) deliver(p job.Priority) (d queue.Delivery, found bool, changed <-chan struct{}, next time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next = time.Hour
	m.order[p] = slices.DeleteFunc(m.order[p], func(sequence uint64) bool { return m.jobs[sequence] == nil })
	for _, sequence := range m.order[p] {
		s := m.jobs[sequence]
		if left := time.Until(s.until); left > 0 {
			next = min(next, left)
			continue
		}
		s.count++
		s.lease, s.until = leaseOf(int(sequence), s.count), time.Now().Add(m.ackWait)
		m.effects, m.times = append(m.effects, fmt.Sprintf("deliver %s", s.lease)), append(m.times, time.Now())
		return queue.Delivery{Message: s.message, Lease: s.lease}, true, m.stirred, 0
	}
	return queue.Delivery{}, false, m.stirred, next
}
