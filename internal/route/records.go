package route

import (
	"math"
	"strings"
	"time"
)

// record is a ticket as it is kept: what tickets have in common is in the class. With its job's name, its entries in
// two maps and its place in the class it is some 190 bytes.
type record struct {
	sequence uint64
	revision uint64
	job      JobID
	class    *class // nil = the record is unused
	times    *times // nil = none
	received int64
	at       int32 // place in class.waiting; -1 = not due or expired
	attempt  int32
	rank     int32 // Ticket.Rank
	older    int32 // the next older record whose job has the same name; -1 = none
}

// times are what few tickets have; Unix nanoseconds, 0 = none.
type times struct{ notBefore, expires int64 }

// before is the order in which tickets run that are alike.
func (x *record) before(y *record) bool {
	a, b := x.received+int64(x.rank)*int64(RankStep), y.received+int64(y.rank)*int64(RankStep)
	return a < b || a == b && x.sequence < y.sequence
}

const chunk = 256

// records keeps tickets by number, and finds them by sequence and by job.
type records struct {
	chunks     [][]record
	unused     []int32
	n          int
	bySequence map[uint64]int32
	byJob      map[JobID]int32 // the newest of those whose jobs have this name, of any tenant
}

func newRecords() records {
	return records{bySequence: map[uint64]int32{}, byJob: map[JobID]int32{}}
}

func (r *records) at(i int32) *record { return &r.chunks[i/chunk][i%chunk] }

func (r *records) add(sequence uint64, c *class, job JobID) int32 {
	if len(r.unused) == 0 {
		from := int32(len(r.chunks) * chunk)
		r.chunks = append(r.chunks, make([]record, chunk))
		for i := from + chunk - 1; i >= from; i-- {
			r.unused = append(r.unused, i)
		}
	}
	i := r.unused[len(r.unused)-1]
	r.unused = r.unused[:len(r.unused)-1]
	job = JobID(strings.Clone(string(job)))
	*r.at(i) = record{sequence: sequence, class: c, job: job, at: -1, older: numberOf(r.byJob, job)}
	r.n++
	r.bySequence[sequence] = i
	r.byJob[job] = i
	return i
}

func (r *records) remove(i int32) {
	x := r.at(i)
	delete(r.bySequence, x.sequence)
	switch newest := r.byJob[x.job]; {
	case newest != i:
		newer := r.at(newest)
		for newer.older != i {
			newer = r.at(newer.older)
		}
		newer.older = x.older
	case x.older >= 0:
		r.byJob[r.at(x.older).job] = x.older
	default:
		delete(r.byJob, x.job)
	}
	*x = record{}
	r.unused = append(r.unused, i)
	r.n--
}

// find returns the number of a ticket, or -1.
func (r *records) find(sequence uint64) int32 { return numberOf(r.bySequence, sequence) }

func (r *records) findJob(t Tenant, job JobID) int32 {
	i := numberOf(r.byJob, job)
	for i >= 0 && r.at(i).class.lane.tenant != t {
		i = r.at(i).older
	}
	return i
}

// numberOf returns -1 for what is not there.
func numberOf[K comparable](m map[K]int32, key K) int32 {
	if i, ok := m[key]; ok {
		return i
	}
	return -1
}

// latest is the last moment that Unix nanoseconds can name, in the year 2262.
var latest = time.Unix(0, math.MaxInt64)

// nanos gives Unix nanoseconds, 0 for none. A time after latest counts as latest, since it would
// overflow into the past, where a job would be due and a block over.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.After(latest):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
