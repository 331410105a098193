package route

import (
	"math"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// record is a ticket as it is kept: what tickets have in common is in the class. With its job's name, its two
// index entries and its place in the class it is some 130 bytes.
type record struct {
	sequence uint64
	revision uint64
	job      JobID
	class    *class // nil = the record is unused
	times    *times // nil = none
	received int64
	at       int32 // place in class.waiting; -1 = not due or expired
	attempt  int32
}

// times are what few tickets have; Unix nanoseconds, 0 = none.
type times struct{ notBefore, expires int64 }

const chunk = 256

// records keeps tickets by number, and finds them by sequence and by job.
type records struct {
	chunks     [][]record
	unused     []int32
	n          int
	bySequence index
	byJob      index
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
	*r.at(i) = record{sequence: sequence, class: c, job: JobID(strings.Clone(string(job))), at: -1}
	r.n++
	r.bySequence.add(i, r.sequenceKey)
	r.byJob.add(i, r.jobKey)
	return i
}

func (r *records) remove(i int32) {
	r.bySequence.remove(i, r.sequenceKey)
	r.byJob.remove(i, r.jobKey)
	*r.at(i) = record{}
	r.unused = append(r.unused, i)
	r.n--
}

// find returns the number of a ticket, or -1.
func (r *records) find(sequence uint64) int32 {
	return r.bySequence.find(mix(sequence), func(i int32) bool { return r.at(i).sequence == sequence })
}

func (r *records) findJob(t Tenant, job JobID) int32 {
	return r.byJob.find(jobKey(t, job), func(i int32) bool {
		x := r.at(i)
		return x.job == job && x.class.lane.tenant == t
	})
}

func (r *records) sequenceKey(i int32) uint64 { return mix(r.at(i).sequence) }

func (r *records) jobKey(i int32) uint64 {
	x := r.at(i)
	return jobKey(x.class.lane.tenant, x.job)
}

func jobKey(t Tenant, job JobID) uint64 {
	return xxhash.Sum64String(string(t))*31 ^ xxhash.Sum64String(string(job))
}

func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// index is a hash table of numbers, 4 bytes a slot, at most three quarters full; the keys are where the numbers
// point.
type index struct {
	slots []int32 // number+1; 0 = empty
	n     int
}

func (x *index) add(i int32, key func(int32) uint64) {
	if 4*(x.n+1) > 3*len(x.slots) {
		old := x.slots
		x.slots = make([]int32, max(2*len(old), 16))
		for _, s := range old {
			if s != 0 {
				x.insert(s, key(s-1))
			}
		}
	}
	x.n++
	x.insert(i+1, key(i))
}

func (x *index) insert(slot int32, key uint64) {
	mask := uint64(len(x.slots) - 1)
	k := key & mask
	for x.slots[k] != 0 {
		k = (k + 1) & mask
	}
	x.slots[k] = slot
}

func (x *index) find(key uint64, is func(int32) bool) int32 {
	if x.n == 0 {
		return -1
	}
	mask := uint64(len(x.slots) - 1)
	for k := key & mask; x.slots[k] != 0; k = (k + 1) & mask {
		if i := x.slots[k] - 1; is(i) {
			return i
		}
	}
	return -1
}

// remove takes a number out and moves the ones after it up, so that no gap hides them.
func (x *index) remove(i int32, key func(int32) uint64) {
	mask := uint64(len(x.slots) - 1)
	gap := key(i) & mask
	for x.slots[gap] != i+1 {
		gap = (gap + 1) & mask
	}
	for k := (gap + 1) & mask; x.slots[k] != 0; k = (k + 1) & mask {
		home := key(x.slots[k]-1) & mask
		if (k-home)&mask >= (k-gap)&mask {
			x.slots[gap] = x.slots[k]
			gap = k
		}
	}
	x.slots[gap] = 0
	x.n--
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
