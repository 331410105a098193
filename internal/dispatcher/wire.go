package dispatcher

import (
	"context"
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// wire is what a dispatcher needs of NATS: a *queue.Queue, or in tests one in memory whose connection can be cut.
type wire interface {
	jobsWire
	chainWire
	roomWire
	blockWire
	hostWire
	peerWire
	letterWire
	fileWire
	ruleWire
	webhookWire
	watchWire
	eventsWire
}

// jobsWire hands out the jobs of COMFY_JOBS and settles their leases.
type jobsWire interface {
	Puller(p job.Priority, take func(queue.Delivery)) (puller, error)
	Stored(ctx context.Context, sequence uint64) (job.Message, error)
	ShortWorkflowFile(ctx context.Context, name string) ([]byte, error)
	NextStored(ctx context.Context, tenant job.Tenant, lane *job.Priority, after uint64) (job.Message, bool, error)
	Depth(ctx context.Context) (map[job.Lane]uint64, error)
	Extend(lease queue.Lease) error
	ExtendSurely(ctx context.Context, lease queue.Lease) error
	Park(lease queue.Lease, rest time.Duration) error
	FinishSoon(lease queue.Lease) error
	Erase(ctx context.Context, sequence uint64) error
	PutAPIKeys(ctx context.Context, tenant job.Tenant, keys *jetstream.APIKeys) (until time.Time, err error)
	DropAPIKeys(ctx context.Context, tenant job.Tenant, id job.ID) error
	TooLarge(body int) string
	JobsRoom() int64
	JobsHeld(ctx context.Context) (job.Unfinished, error)
	AckWait() time.Duration
}

type puller interface {
	Pull(ctx context.Context, n int, wait time.Duration) (int, error)
	Close()
}

// chainWire reads and continues the chains of jobs.
type chainWire interface {
	Append(ctx context.Context, e *job.Event, last uint64, source string, lease queue.Lease) (uint64, error)
	Last(ctx context.Context, tenant job.Tenant, id job.ID) (queue.Link, bool, error)
	LastOf(ctx context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (queue.Link, bool, error)
	FirstOf(ctx context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (uint64, error)
	Chain(ctx context.Context, tenant job.Tenant, id job.ID) ([]queue.Link, error)
	End(ctx context.Context, tenant job.Tenant, id job.ID, c queue.Cancelling) (jetstream.Event, bool, error)
	EventsAge() time.Duration
	Created() time.Time
}

// roomWire is the waiting room.
type roomWire interface {
	PutTicket(ctx context.Context, t *queue.Ticket) (uint64, error)
	Ticket(ctx context.Context, key string) (t queue.Ticket, found bool, claimed time.Time, err error)
	Claim(ctx context.Context, key string, revision uint64) (end uint64, err error)
	TicketLog(ctx context.Context) (queue.TicketLog, error)
	TicketsAfter(ctx context.Context, revision uint64, tell func(queue.Change[queue.Ticket])) error
}

// blockWire holds blocks and strikes.
type blockWire interface {
	Block(ctx context.Context, host string, hash workflow.Hash) (queue.Change[route.Block], error)
	Blocks(ctx context.Context, tell func(queue.Change[route.Block])) error
	OpenBlock(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (bool, error)
	ReplaceBlock(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error)
	LiftBlock(ctx context.Context, host string, hash workflow.Hash, revision uint64, cause queue.UnblockCause) (bool, error)
	Strikes(ctx context.Context, host string, hash workflow.Hash) (queue.Change[route.Strikes], error)
	PutStrikes(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error)
	ClearStrikes(ctx context.Context, host string, hash workflow.Hash, revision uint64) (bool, error)
}

// hostWire speaks with the agents of hosts.
type hostWire interface {
	Host(ctx context.Context, host string) (queue.HostState, bool, error)
	Presence(ctx context.Context, host string) (queue.Change[queue.HostState], error)
	HostNames(ctx context.Context) ([]string, error)
	HostStates(ctx context.Context) (map[string]queue.HostEventKind, error)
	Offer(ctx context.Context, host string, o *queue.Offer) (queue.Reply, error)
	Control(ctx context.Context, host string, c queue.Control) (queue.Reply, error)
	AnnounceHost(ctx context.Context, host string, kind queue.HostEventKind, reason string) error
}

// peerWire is the presence of this dispatcher, and the calls that it answers.
type peerWire interface {
	Now() time.Time
	ClockOff() time.Duration
	Connected() bool
	PresenceTTL() time.Duration
	BeatDispatcher(ctx context.Context, s *queue.DispatcherState) error
	LeaveDispatcher(ctx context.Context, name string) error
	Relay(r *queue.Relay) error
	ServeAPI(ctx context.Context, api queue.API) error
	AnswerBytes() int
	Stores(ctx context.Context) ([]queue.StoreCounts, error)
	Consumers(ctx context.Context) ([]queue.ConsumerCounts, error)
	LaneCap() int64
	LinkState() queue.LinkState
	RoundTrip(ctx context.Context) (time.Duration, error)
	AppendAudit(ctx context.Context, a *queue.AuditRecord, source string) error
}

// letterWire stores and reads dead letters.
type letterWire interface {
	Bury(ctx context.Context, m *job.Message, e *job.Event, last uint64) (uint64, error)
	DeadLettersAfter(ctx context.Context, tenant job.Tenant, since time.Time, after uint64, tell func(queue.DeadLetter) bool) error
	Purge(ctx context.Context, d *queue.DeadLetter) error
	Requeue(ctx context.Context, d *queue.DeadLetter, extra json.RawMessage, only []string) (jetstream.Receipt, error)
	Requeued(ctx context.Context, d *queue.DeadLetter) (bool, error)
	LastLetter(ctx context.Context) (uint64, error)
}

// ruleWire holds what operators have set.
type ruleWire interface {
	SetAffinity(ctx context.Context, hash workflow.Hash, a queue.Affinity) error
	RemoveAffinity(ctx context.Context, hash workflow.Hash) error
	Tenant(ctx context.Context, tenant job.Tenant) (queue.TenantSettings, error)
	SetTenant(ctx context.Context, tenant job.Tenant, s queue.TenantSettings) error
	Slots(ctx context.Context, tenant job.Tenant) ([]queue.Slot, uint64, error)
	PutSlots(ctx context.Context, tenant job.Tenant, slots []queue.Slot, revision uint64) (bool, error)
}

// webhookWire holds webhooks, and what is to be delivered to them.
type webhookWire interface {
	Webhooks(ctx context.Context) ([]queue.WebhookSettings, error)
	Webhook(ctx context.Context, owner job.Tenant, name string) (queue.WebhookSettings, bool, error)
	PutWebhook(ctx context.Context, w *queue.WebhookSettings) (bool, error)
	RemoveWebhook(ctx context.Context, owner job.Tenant, name string) error
	AddUndelivered(ctx context.Context, owner job.Tenant, name string, u queue.Undelivered) error
	CountUndelivered(ctx context.Context) (map[string]int, error)
	OldestUndelivered(ctx context.Context, owner job.Tenant, name string) (time.Time, bool, error)
	EventAt(ctx context.Context, sequence uint64) (jetstream.Note, bool, error)
	EventsFor(ctx context.Context, w *queue.WebhookSettings, after uint64, since time.Time, take func(*jetstream.Note) bool) (uint64, error)
	WasDelivered(ctx context.Context, owner job.Tenant, name string, id job.ID, sequence uint64) (bool, error)
	TriesOf(ctx context.Context, tenant job.Tenant, id job.ID, after uint64) ([]jetstream.WebhookTry, error)
}

// watchWire has the watches, each of which reports changes until its context ends.
type watchWire interface {
	WatchDispatchers(ctx context.Context, tell func(queue.Change[queue.DispatcherState])) error
	WatchHosts(ctx context.Context, tell func(queue.Change[queue.HostState])) error
	FollowHosts(ctx context.Context, tell func(queue.HostState)) error
	FollowChosen(ctx context.Context, chosen <-chan []string, tell func(queue.HostState)) error
	FollowHostNames(ctx context.Context, tell func(host string)) error
	FollowRelays(ctx context.Context, tell func(queue.Relay)) error
	WatchCapabilities(ctx context.Context, tell func(queue.Change[workflow.Capability])) error
	WatchBlocks(ctx context.Context, tell func(queue.Change[route.Block])) error
	WatchStrikes(ctx context.Context, tell func(queue.Change[route.Strikes])) error
	WatchAffinity(ctx context.Context, tell func(queue.Change[queue.Affinity])) error
	WatchTenants(ctx context.Context, tell func(queue.Change[queue.TenantSettings])) error
	WatchGrants(ctx context.Context, tell func(queue.Change[queue.HostGrant])) error
	WatchSlots(ctx context.Context, tell func(queue.Change[[]queue.Slot])) error
	WatchTickets(ctx context.Context, tell func(queue.Change[queue.Ticket])) error
	FollowCancels(ctx context.Context, tell func(job.Event)) error
	SettleFailed(ctx context.Context, settle func(context.Context, queue.Link) error, failed func(error)) error
	AnnounceBlocks(ctx context.Context, source string, failed func(error)) error
	Tally(ctx context.Context, tell func(jetstream.Note), failed func(error)) error
}

// onNATS is the wire of a real queue.
type onNATS struct{ *queue.Queue }

func (w onNATS) Puller(p job.Priority, take func(queue.Delivery)) (puller, error) {
	made, err := w.Queue.Puller(p, take)
	if err != nil {
		return nil, err
	}
	return made, nil
}

// JobsHeld gives what is stored in COMFY_JOBS.
func (w onNATS) JobsHeld(ctx context.Context) (job.Unfinished, error) {
	jobs, bytes, err := w.Queue.JobsHeld(ctx)
	return job.Unfinished{Jobs: jobs, Bytes: bytes}, err
}

func (w onNATS) ReadEvents(after uint64, tell func(jetstream.Note)) (eventReader, error) {
	made, err := w.Queue.ReadEvents(after, tell)
	if err != nil {
		return nil, err
	}
	return made, nil
}
