package job

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// hashGroup is the rows of a tenant with the same hash.
type hashGroup struct {
	counts Counts32
	rows   int32
	title  uint32 // a name
	runs   lastRuns
	ended  hourly // jobs that were completed or died
	last   uint64
	lastAt int64
	done   uint32 // the row that was completed last, as long as it stands; a row that stands for another job by now has another hash
	isDone bool
}

// Counts32 is Counts in less memory.
type Counts32 [8]uint32

// runsKept is how many of the last runs count in their median.
const runsKept = 9

// lastRuns is how long the last runs took. There is one for each workflow of a tenant, so it is small: each run is the upper half of a
// float32 of its seconds, which is right to half a percent.
type lastRuns struct {
	took [runsKept]uint16 // 0: there was none yet
	next uint8
}

func (r *lastRuns) add(ran time.Duration) {
	r.took[r.next] = uint16((math.Float32bits(float32(ran.Seconds())) + 1<<15) >> 16)
	r.next = (r.next + 1) % runsKept
}

// median is 0 when there was no run.
func (r lastRuns) median() time.Duration {
	slices.Sort(r.took[:]) // as the numbers that they stand for, since none is negative
	known := r.took[:]
	for len(known) > 0 && known[0] == 0 {
		known = known[1:]
	}
	if len(known) == 0 {
		return 0
	}
	seconds := func(i int) float64 { return float64(math.Float32frombits(uint32(known[i]) << 16)) }
	return time.Duration((seconds((len(known)-1)/2) + seconds(len(known)/2)) / 2 * float64(time.Second))
}

// regroup counts a row in the group of its hash. before is what it was counted as; none when it is a new row.
func (f *Fold) regroup(at uint32, before *row, e *StoredEvent) {
	r := &f.rows[at]
	if before == nil || before.hash != r.hash {
		if before != nil {
			f.leaveGroup(before)
		}
		f.joinGroup(r)
	} else if g := f.groupOf(r); g != nil {
		g.counts[before.state]--
		g.counts[r.state]++
	}
	g := f.groupOf(r)
	if g == nil {
		return
	}
	g.last, g.lastAt = r.last, r.lastAt
	if e.Brief.Title != "" && len(e.Brief.Title) <= longestText && f.names.text(g.title) != e.Brief.Title {
		f.rename(&g.title, e.Brief.Title)
	}
	if e.Kind == Completed || e.Kind == Dead {
		g.ended.add(e.Time)
	}
	if e.Kind == Completed {
		g.done, g.isDone = at, true
	}
	if ran := time.Duration(e.Brief.RanFor); e.Kind == Completed && ran > 0 {
		g.runs.add(ran)
	}
}

func (f *Fold) groupOf(r *row) *hashGroup { return f.tenants[r.tenant].groups[r.hash] }

func (f *Fold) joinGroup(r *row) {
	if r.hash == 0 {
		return
	}
	t := f.tenants[r.tenant]
	g := t.groups[r.hash]
	if g == nil {
		if t.groups == nil {
			t.groups = map[uint32]*hashGroup{}
		}
		g = &hashGroup{}
		t.groups[r.hash] = g
	}
	g.rows++
	g.counts[r.state]++
}

func (f *Fold) leaveGroup(r *row) {
	g := f.groupOf(r)
	if g == nil {
		return
	}
	g.counts[r.state]--
	if g.rows--; g.rows == 0 {
		f.names.drop(g.title)
		delete(f.tenants[r.tenant].groups, r.hash)
	}
}

// WorkflowRow is the jobs of one hash.
type WorkflowRow struct {
	Hash   workflow.Hash
	Title  string
	Counts Counts
	RanFor time.Duration // median of the last runs of the tenant whose job was last; 0 when there was none
	Last   Mark
	Done   Key // the job that was completed last, of the tenant whose job was last; empty when there is none
	Hourly int // jobs that were completed or died in the last hour
}

// Key names a job.
type Key struct {
	Tenant Tenant
	Job    ID
}

// Workflows lists the hashes of a tenant's jobs, or of all, that have a beginning and whose last event is older than before, when
// that is not 0: at most so many, the one with the newest event first.
func (f *Fold) Workflows(of Tenant, beginning workflow.Hash, before uint64, most int, now time.Time) []WorkflowRow {
	all := map[uint32]*WorkflowRow{}
	for name, t := range f.tenants {
		if of != "" && f.names.text(name) != string(of) {
			continue
		}
		for hash, g := range t.groups {
			if text := f.names.text(hash); strings.HasPrefix(text, string(beginning)) {
				f.addTo(all, name, hash, g, now)
			}
		}
	}
	list := make([]WorkflowRow, 0, len(all))
	for _, w := range all {
		if before == 0 || w.Last.Sequence < before {
			list = append(list, *w)
		}
	}
	slices.SortFunc(list, func(a, b WorkflowRow) int {
		if a.Last.Sequence > b.Last.Sequence {
			return -1
		}
		return 1 // two hashes never have the same last event
	})
	return list[:min(len(list), most)]
}

func (f *Fold) addTo(all map[uint32]*WorkflowRow, tenant, hash uint32, g *hashGroup, now time.Time) {
	w := all[hash]
	if w == nil {
		w = &WorkflowRow{Hash: workflow.Hash(f.names.text(hash))}
		all[hash] = w
	}
	for i, n := range g.counts {
		w.Counts[i] += int(n)
	}
	w.Hourly += g.ended.at(now)
	if title := f.names.text(g.title); title != "" && (w.Title == "" || g.last > w.Last.Sequence) {
		w.Title = title
	}
	if g.last <= w.Last.Sequence {
		return
	}
	w.Last = Mark{g.last, time.Unix(0, g.lastAt)}
	w.Done, w.RanFor = Key{}, g.runs.median() // those of a tenant that was met before do not count
	if r := &f.rows[g.done]; g.isDone && r.tenant == tenant && r.hash == hash && rowStates[r.state] == Completed {
		w.Done = Key{Tenant(f.names.text(r.tenant)), r.id}
	}
}
