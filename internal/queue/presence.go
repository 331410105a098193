package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// HostState is the state of a host as its agent sends it: in its presence (COMFY_HOSTS), in every answer to an offer, and as a
// broadcast at each change of a slot.
type HostState struct {
	Host     string          `json:"host"`
	Instance string          `json:"instance"` // of the agent process; a restarted agent has another
	Serial   uint64          `json:"serial"`   // number of the state; later states of an instance have higher ones
	State    Availability    `json:"state"`
	Reason   string          `json:"reason,omitempty"`    // why it is not online
	Cause    failure.Cause   `json:"cause,omitempty"`     // why it is unhealthy, or the suspected cause when it is on trial
	Trial    bool            `json:"trial,omitempty"`     // it may be unhealthy: it takes one job at a time, and the next one of another workflow decides
	Blame    *Blame          `json:"blame,omitempty"`     // whose job it ran when it became unhealthy
	ClockOff Offset          `json:"clock_off,omitempty"` // how far the agent's clock is ahead of NATS'; 0 when it is off by at most 1 s
	Slots    int             `json:"slots"`
	Prefetch int             `json:"prefetch"`          // how many jobs it accepts beyond its slots
	Running  []RunningJob    `json:"running,omitempty"` // jobs that were accepted and have not ended on the host
	Foreign  int             `json:"foreign,omitempty"` // prompts in ComfyUI's backlog that are not from comfyherd
	Labels   []string        `json:"labels,omitempty"`
	Recent   []workflow.Hash `json:"recent,omitempty"`      // hashes that ran last, newest first; their models are warm
	Memory   int64           `json:"memory,omitempty"`      // bytes of VRAM, used and free
	Used     int64           `json:"memory_used,omitempty"` // bytes of it that were used when the agent looked last; 0: it has not
	Version  string          `json:"version,omitempty"`     // ComfyUI's
	Agent    string          `json:"agent_version,omitempty"`
	Device   string          `json:"device,omitempty"`
	URL      string          `json:"url,omitempty"`
	Ended    *EndedJob       `json:"ended,omitempty"` // the run whose end caused this state
	Brief    bool            `json:"brief,omitempty"` // the fields that Abridged leaves out are missing and unchanged
	Time     time.Time       `json:"time"`
}

// Abridged is the state without the fields that seldom change, to be sent at every change of a slot.
func (s *HostState) Abridged() HostState {
	brief := *s
	brief.Brief = true
	brief.Labels, brief.Recent, brief.Memory, brief.Used, brief.Version, brief.Agent, brief.Device, brief.URL = nil, nil, 0, 0, "", "", "", ""
	return brief
}

// Completed fills the missing fields of a brief state from the previous one. The hashes of jobs that run, and of the one that has
// just ended, are added to Recent: a short run may have been in no other state.
func (s *HostState) Completed(before *HostState) HostState {
	if !s.Brief {
		return *s
	}
	full := *s
	full.Brief = false
	full.Labels, full.Recent, full.Memory, full.Used = before.Labels, before.Recent, before.Memory, before.Used
	full.Version, full.Agent, full.Device, full.URL = before.Version, before.Agent, before.Device, before.URL
	if s.Ended != nil {
		full.Recent = warmest(full.Recent, s.Ended.Hash)
	}
	for i := range s.Running {
		full.Recent = warmest(full.Recent, s.Running[i].Hash)
	}
	return full
}

// recentMost is how many hashes count as warm.
const recentMost = 8

// warmest puts a hash first; a list that has it first already is returned as it is. A hash that is new to the list is copied, since
// its bytes may be part of a large message.
func warmest(recent []workflow.Hash, hash workflow.Hash) []workflow.Hash {
	if len(recent) > 0 && recent[0] == hash {
		return recent
	}
	if i := slices.Index(recent, hash); i >= 0 {
		hash = recent[i]
	} else {
		hash = workflow.Hash(strings.Clone(string(hash)))
	}
	next := append(make([]workflow.Hash, 0, recentMost), hash)
	for _, h := range recent {
		if h != hash && len(next) < recentMost {
			next = append(next, h)
		}
	}
	return next
}

// Availability of a host.
type Availability string

const (
	Online    Availability = "online"
	Draining  Availability = "draining"
	Unhealthy Availability = "unhealthy" // ComfyUI is down or sick
	Offline   Availability = "offline"   // only in the answer of hosts: its agent has gone
)

// Blame identifies the job that a host ran when it became unhealthy.
type Blame struct {
	Tenant job.Tenant    `json:"tenant"`
	Job    job.ID        `json:"job"`
	Hash   workflow.Hash `json:"hash"`
}

// RunningJob is a job on a host.
type RunningJob struct {
	Tenant   job.Tenant    `json:"tenant"`
	Job      job.ID        `json:"job"`
	Priority job.Priority  `json:"priority"`
	Hash     workflow.Hash `json:"hash"`
	Attempt  int           `json:"attempt"`
	Since    time.Time     `json:"since"`
}

// EndedJob is a run that has ended: of which job, how long it took, and how it ended.
type EndedJob struct {
	Tenant   job.Tenant    `json:"tenant"`
	Job      job.ID        `json:"job"`
	Priority job.Priority  `json:"priority"`
	Hash     workflow.Hash `json:"hash"`
	Size     int64         `json:"size,omitempty"`
	RanFor   job.Duration  `json:"ran_for"`
	Success  bool          `json:"success"`
	Kind     failure.Kind  `json:"kind,omitempty"`  // of the failure, when it was one
	Loads    []ModelLoad   `json:"loads,omitempty"` // of model files
}

// ModelLoad is how long a run took to load some model files together.
type ModelLoad struct {
	Files []string     `json:"files"` // as in the workflow, with / for \
	Took  job.Duration `json:"took"`
}

// Free reports whether the host has a slot that runs nothing.
func (s *HostState) Free() bool { return s.State == Online && len(s.Running)+s.Foreign < s.Slots }

// DispatcherState is a dispatcher's presence in COMFY_DISPATCHERS.
type DispatcherState struct {
	Dispatcher string    `json:"dispatcher"`
	Version    string    `json:"version,omitempty"`
	Started    time.Time `json:"started"`
	Waiting    int       `json:"waiting"`
	ClockOff   Offset    `json:"clock_off,omitempty"` // how far its clock is ahead of NATS'; 0 when it is off by at most 1 s

	Relays      bool `json:"relays,omitempty"`       // it relays the states of hosts when another dispatcher wants that
	WantsRelays bool `json:"wants_relays,omitempty"` // it needs the relays of the others

	RelaysTickets bool `json:"relays_tickets,omitempty"` // its relays also have the tickets that it has written or claimed
}

// Beat writes or renews a host's presence, which ends after PresenceTTL.
func (q *Queue) Beat(ctx context.Context, s *HostState) error {
	_, err := q.hosts.Put(ctx, s.Host, s.AppendJSON(make([]byte, 0, stateSize)))
	return wrap(err, "put %s into %s", s.Host, q.hosts.Bucket())
}

// BeatDispatcher writes or renews a dispatcher's presence, which ends after PresenceTTL.
func (q *Queue) BeatDispatcher(ctx context.Context, s *DispatcherState) error {
	return putJSON(ctx, q.dispatchers, s.Dispatcher, s)
}

// Leave ends a host's presence at once, when its agent stops.
func (q *Queue) Leave(ctx context.Context, host string) error {
	return wrap(q.hosts.Delete(ctx, host), "end presence of host %s", host)
}

// LeaveDispatcher ends a dispatcher's presence at once.
func (q *Queue) LeaveDispatcher(ctx context.Context, name string) error {
	return wrap(q.dispatchers.Purge(ctx, name), "end presence of dispatcher %s", name)
}

// Host reads one host's presence; false when it is gone.
func (q *Queue) Host(ctx context.Context, host string) (HostState, bool, error) {
	c, err := readOne(ctx, q.readHosts, q.hosts, host, HostStateOf)
	return c.Value, err == nil && c.Phase == Put, err
}

// Hosts reads the presence of all hosts.
func (q *Queue) Hosts(ctx context.Context) ([]HostState, error) {
	var states []HostState
	err := each(ctx, q.hosts, HostStateOf, func(c Change[HostState]) {
		if c.Phase == Put {
			states = append(states, c.Value)
		}
	})
	return states, err
}

// HostStateOf decodes a host's presence. A brief state is none: there is no state before it that has what it leaves out.
func HostStateOf(e Entry) (HostState, error) {
	s, err := decodeState(e.Value)
	switch {
	case err != nil:
	case s.Host != e.Key:
		err = fmt.Errorf("the value names another host than the key: %.80q", s.Host)
	case s.Brief:
		err = errors.New("the state is abridged (brief), and a presence must not be")
	default:
		err = s.check()
	}
	if err != nil {
		return HostState{}, err
	}
	return s, nil
}

// DispatcherStateOf decodes a dispatcher's presence.
func DispatcherStateOf(e Entry) (DispatcherState, error) {
	s, err := decodeChecked[DispatcherState](e.Value)
	if err == nil && s.Dispatcher != e.Key {
		err = fmt.Errorf("the value names another dispatcher than the key: %.80q", s.Dispatcher)
	}
	return s, err
}

func putJSON(ctx context.Context, kv natsjs.KeyValue, key string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	_, err = kv.Put(ctx, key, body)
	return wrap(err, "put %s into %s", key, kv.Bucket())
}

// putExpecting writes a key that is at a revision (0: the key does not exist, or was removed); false when it has another.
func putExpecting(ctx context.Context, kv natsjs.KeyValue, key string, value []byte, revision uint64) (bool, error) {
	var err error
	if revision == 0 {
		_, err = kv.Create(ctx, key, value)
	} else {
		_, err = kv.Update(ctx, key, value, revision)
	}
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "put %s into %s", key, kv.Bucket())
}

// each calls tell for every key that a bucket holds at this moment.
func each[V any](ctx context.Context, kv natsjs.KeyValue, read func(Entry) (V, error), tell func(Change[V])) error {
	watcher, err := kv.WatchAll(ctx, natsjs.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", kv.Bucket(), err)
	}
	defer ended(watcher)
	for {
		select {
		case entry := <-watcher.Updates():
			if entry == nil {
				return nil
			}
			c, _ := Decode(entryOf(entry), read) // the phase says whether it is valid
			tell(c)
		case <-ctx.Done():
			return fmt.Errorf("read bucket %s: %w", kv.Bucket(), ctx.Err())
		}
	}
}
