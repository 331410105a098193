package job

import (
	"hash/maphash"
	"math"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// StoredEvent is an event of a job as a Fold takes it in: where it is stored, and what it says.
type StoredEvent struct {
	Tenant   Tenant
	Job      ID
	Kind     EventKind
	Sequence uint64
	Time     time.Time // when it was stored
	Readable bool      // false: its body cannot be read, and Brief is empty
	Brief    Brief
	Dead     *Event // the whole event, of kind dead
}

// Row is a job as its events have left it. A new field, which lists of jobs show, has its place in:
//
//   - event.go, if events do not have it yet, and brief.go (Brief, ReadBrief, take);
//   - fold.go: Row and row, tell, which takes it from an event, and Fold.row;
//   - JobRow (jetstream/answers.go) and jobRow (internal/dispatcher/history.go); mostRowSize (internal/queue/pagesize.go) bounds its size;
//   - the page: rowOf (internal/dashboard/assets/api.js), which makes a row of an event, and views/jobs.js;
//   - docs/contract.md.
type Row struct {
	Tenant      Tenant
	Job         ID
	State       EventKind // of the last event
	Priority    Priority
	Hash        workflow.Hash
	Name        string       // what people call it
	Title       string       // of its workflow
	Host        string       // where it runs, or has run last
	Attempt     int          // of the last event that has one
	MaxAttempts int          // that count before it is dead; 0: unknown
	Kind        failure.Kind // of the last failure, until it is completed
	Reason      string       // why it waits, or is dead
	RequeueOf   ID
	First       Mark // of its first event that is known
	Last        Mark
}

// Mark is the place of an event in COMFY_EVENTS.
type Mark struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"` // when it was stored
}

// row keeps a Row small; the names are numbers in the pools of the Fold.
type row struct {
	id              ID
	first, last     uint64
	firstAt, lastAt int64 // Unix nanoseconds
	next            uint32
	tenant          uint32
	hash            uint32
	host            uint32
	kind            uint32
	reason          uint32
	attempt         uint32
	bytes           uint32 // of an unfinished job, as published
	state           uint8  // place in rowStates
	priority        uint8
	unseen          bool // it was cancelled before it was received
	maxAttempts     uint8
}

// rowStates are the kinds that a row may have, in the order of their numbers.
var rowStates = EventKinds()

// noRow is the number of no row.
const noRow = ^uint32(0)

// Fold folds events into one row a job: what a list of jobs shows, newest first.
//
// Guarantee: after any events of a stream, added once each in the order of their sequences, a row has the state of its
// job's last event, the counts are those of the rows, and no job is missing whose last event is not older than Since.
// There are never more rows than the limit. A query of one tenant never returns a row of another.
//
// A row costs some 200 bytes, and its share of the names that rows have in common. It is not safe for concurrent use.
type Fold struct {
	limit    int
	rows     []row
	free     []uint32          // places in rows
	index    map[uint64]uint32 // the first row of each hash of tenant and id; the others hang on it by next
	seed     maphash.Seed
	mask     uint64 // of the hashes that index knows
	requeues map[uint32]ID
	names    namePool
	order    rowOrder
	tenants  map[uint32]*tenantRows // by name
	ended    int                    // before this place in order is no row that has ended
	last     Mark                   // of the event that was added last
	since    Mark
	texts    texts
	trend    trend // of the last hour
	days     trend // of the last two days
	deaths   deaths
	busy     busy
}

// tenantRows is what is known of one tenant.
type tenantRows struct {
	order  rowOrder
	counts Counts
	bytes  int64 // of its unfinished jobs
	rows   int
	unseen int // rows of jobs that were cancelled unseen
	groups map[uint32]*hashGroup
	pace   pace
}

// NewFold folds into at most limit rows.
func NewFold(limit int) *Fold {
	return &Fold{
		limit: max(limit, 1), index: map[uint64]uint32{}, seed: maphash.MakeSeed(), mask: ^uint64(0), requeues: map[uint32]ID{},
		names: newNamePool(), tenants: map[uint32]*tenantRows{}, texts: newTexts(), deaths: newDeaths(), busy: busy{},
		trend: newTrend(TrendStep, trendSteps), days: newTrend(DayStep, daySteps),
	}
}

// Last is the event that was added last.
func (f *Fold) Last() Mark { return f.last }

// Since is the moment from which on no job is missing: rows whose last event is older may have been removed.
func (f *Fold) Since() Mark { return f.since }

// Len is how many rows there are.
func (f *Fold) Len() int { return len(f.rows) - len(f.free) }

// Add adds an event. One that is not newer than the last is ignored, and so is one of an unknown kind.
func (f *Fold) Add(e *StoredEvent) {
	if e.Sequence <= f.last.Sequence {
		return
	}
	f.last = Mark{e.Sequence, e.Time}
	state, known := stateNumber(e.Kind)
	if !known {
		return
	}
	f.trend.add(state, e.Time)
	f.days.add(state, e.Time)
	at, found := f.find(e.Tenant, e.Job)
	var before *row
	if !found {
		at = f.insert(e)
	} else {
		was := f.rows[at]
		before = &was
	}
	f.runs(before, e)
	f.paces(before, e)
	r := &f.rows[at]
	t := f.tenants[r.tenant]
	t.counts[r.state]--
	t.counts[state]++
	f.weigh(at, state, e.Brief.Bytes)
	f.setUnseen(at, e.Kind == Cancelled && e.Brief.Reason == Unseen)
	r.state, r.last, r.lastAt = state, e.Sequence, e.Time.UnixNano()
	f.tell(at, e)
	f.regroup(at, before, e)
	f.texts.put(at, r.first, &e.Brief)
	f.deaths.count(at, r.tenant, e)
	f.moved(at)
	if f.Len() > f.limit {
		f.dropOne()
	}
}

// tell updates a row from the body of an event.
func (f *Fold) tell(at uint32, e *StoredEvent) {
	r := &f.rows[at]
	f.rename(&r.reason, word(e.Brief.Reason))
	if e.Kind == Completed {
		f.rename(&r.kind, "")
	}
	if !e.Readable {
		return
	}
	b := &e.Brief
	r.priority = uint8(b.Priority)
	if b.Attempt > 0 {
		r.attempt = uint32(b.Attempt)
	}
	if b.MaxAttempts > 0 {
		r.maxAttempts = uint8(min(b.MaxAttempts, math.MaxUint8))
	}
	if b.Hash != "" {
		f.rename(&r.hash, string(b.Hash))
	}
	if b.Host != "" {
		f.rename(&r.host, b.Host)
	}
	if kind := word(b.Kind); kind != "" {
		f.rename(&r.kind, kind)
	}
	if b.RequeueOf != "" && f.requeues[at] != b.RequeueOf {
		f.requeues[at] = ID(strings.Clone(string(b.RequeueOf)))
	}
}

func (f *Fold) rename(number *uint32, name string) {
	was := *number
	*number = f.names.take(name)
	f.names.drop(was)
}

// longestWord is how many letters a reason or kind may have: those of this system have fewer.
const longestWord = 64

// word returns a reason or kind if it has the form of this system's, or nothing: the event may come from any program.
func word[T ~string](s T) string {
	if len(s) > longestWord {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return string(s)
}

func (f *Fold) key(tenant Tenant, id ID) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	_, _ = h.WriteString(string(tenant)) // it never fails
	_ = h.WriteByte('/')
	_, _ = h.WriteString(string(id))
	return h.Sum64() & f.mask
}

func (f *Fold) find(tenant Tenant, id ID) (uint32, bool) {
	at, found := f.index[f.key(tenant, id)]
	for found && at != noRow {
		if r := &f.rows[at]; r.id == id && f.names.text(r.tenant) == string(tenant) {
			return at, true
		}
		at = f.rows[at].next
	}
	return noRow, false
}

func (f *Fold) insert(e *StoredEvent) uint32 {
	at := uint32(len(f.rows))
	if n := len(f.free); n > 0 {
		at, f.free = f.free[n-1], f.free[:n-1]
	} else {
		f.rows = append(f.rows, row{})
	}
	key, next := f.key(e.Tenant, e.Job), noRow
	if first, taken := f.index[key]; taken {
		next = first
	}
	f.index[key] = at
	name := f.names.take(string(e.Tenant))
	t := f.tenants[name]
	if t == nil {
		t = &tenantRows{}
		f.tenants[name] = t
	}
	t.rows++
	t.counts[0]++ // of queued, the state of a new row, which Add then changes to that of the event
	f.rows[at] = row{
		id: ID(strings.Clone(string(e.Job))), tenant: name, first: e.Sequence, firstAt: e.Time.UnixNano(), next: next,
	}
	return at
}

// moved puts a row at the end of the orders, since its event is the newest.
func (f *Fold) moved(at uint32) {
	r := &f.rows[at]
	f.order.add(r.last, at)
	f.tidy()
	t := f.tenants[r.tenant]
	t.order.add(r.last, at)
	if t.order.stale(t.rows) {
		t.order.shrink(f.rows)
	}
}

// dropOne removes the row that has ended longest ago, or when none has, the oldest of all.
func (f *Fold) dropOne() {
	for ; f.ended < f.order.len(); f.ended++ {
		if at, found := f.order.at(f.rows, f.ended); found && rowStates[f.rows[at].state].Terminal() {
			f.drop(at)
			return
		}
	}
	if at, found := f.order.oldest(f.rows); found {
		f.drop(at)
	}
}

// Forget removes the rows whose last event is older than the first that is still stored: other readers of the stream do
// not know these jobs any more either.
func (f *Fold) Forget(first Mark) {
	for {
		at, found := f.order.oldest(f.rows)
		if !found || f.rows[at].last >= first.Sequence {
			break
		}
		f.drop(at)
	}
	if first.Sequence >= f.since.Sequence {
		f.since = first
	}
	f.tidy()
}

// tidy keeps the void places of the order fewer than the others.
func (f *Fold) tidy() {
	if f.order.stale(f.Len()) {
		f.order.shrink(f.rows)
		f.ended = 0
	}
}

func (f *Fold) drop(at uint32) {
	r := &f.rows[at]
	if r.last >= f.since.Sequence {
		f.since = Mark{r.last + 1, time.Unix(0, r.lastAt)}
	}
	f.unlink(at)
	f.setUnseen(at, false)
	f.leaveGroup(r)
	f.texts.drop(at)
	f.deaths.forget(at, f.names.text(r.host))
	t := f.tenants[r.tenant]
	t.counts[r.state]--
	t.bytes -= int64(r.bytes)
	t.rows--
	switch {
	case t.rows == 0:
		delete(f.tenants, r.tenant)
	case t.order.stale(t.rows):
		t.order.shrink(f.rows)
	}
	for _, name := range []uint32{r.tenant, r.hash, r.host, r.kind, r.reason} {
		f.names.drop(name)
	}
	delete(f.requeues, at)
	f.rows[at] = row{} // no event has sequence 0, so no place stands for it
	f.free = append(f.free, at)
}

func (f *Fold) unlink(at uint32) {
	r := &f.rows[at]
	key := f.key(Tenant(f.names.text(r.tenant)), r.id)
	switch before := f.index[key]; {
	case before == at && r.next == noRow:
		delete(f.index, key)
	case before == at:
		f.index[key] = r.next
	default:
		for f.rows[before].next != at {
			before = f.rows[before].next
		}
		f.rows[before].next = r.next
	}
}

func (f *Fold) tenant(name Tenant) *tenantRows {
	number, known := f.names.number(string(name))
	if !known {
		return nil
	}
	return f.tenants[number] // nil when it is the name of something else
}

func (f *Fold) row(at uint32) Row {
	r := &f.rows[at]
	return Row{
		Tenant: Tenant(f.names.text(r.tenant)), Job: r.id, State: rowStates[r.state], Priority: Priority(r.priority),
		Hash: workflow.Hash(f.names.text(r.hash)), Name: f.texts.of[at].name, Title: f.title(at), Host: f.names.text(r.host), Attempt: int(r.attempt), MaxAttempts: int(r.maxAttempts),
		Kind: failure.Kind(f.names.text(r.kind)), Reason: f.names.text(r.reason), RequeueOf: f.requeues[at],
		First: Mark{r.first, time.Unix(0, r.firstAt)}, Last: Mark{r.last, time.Unix(0, r.lastAt)},
	}
}

// Anew makes an empty fold with the same limit.
func (f *Fold) Anew() *Fold { return NewFold(f.limit) }
