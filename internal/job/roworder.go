package job

import "sort"

// rowOrder lists rows by the sequences of their last events. A row with a new event is added again at the end, and its former
// place is void: the sequence there is not that of the row's last event.
type rowOrder struct {
	sequences []uint64
	places    []uint32
	head      int // all places before it are void
}

func (o *rowOrder) len() int { return len(o.places) }

func (o *rowOrder) add(sequence uint64, at uint32) {
	o.sequences, o.places = append(o.sequences, sequence), append(o.places, at)
}

func (o *rowOrder) sequence(i int) uint64 { return o.sequences[i] }

// at gives the row at a place; false when the row has a newer event or is left out.
func (o *rowOrder) at(rows []row, i int) (uint32, bool) {
	at := o.places[i]
	return at, rows[at].last == o.sequences[i]
}

// oldest gives the row whose last event is the oldest.
func (o *rowOrder) oldest(rows []row) (uint32, bool) {
	for ; o.head < o.len(); o.head++ {
		if at, found := o.at(rows, o.head); found {
			return at, true
		}
	}
	return noRow, false
}

// before is the place of the first entry that is not older than a sequence.
func (o *rowOrder) before(sequence uint64) int {
	return sort.Search(len(o.sequences), func(i int) bool { return o.sequences[i] >= sequence })
}

// fewPlaces: so many void places are kept whatever the number of rows is.
const fewPlaces = 64

// stale reports whether more than half of the places are void.
func (o *rowOrder) stale(rows int) bool { return len(o.places) > 2*rows+fewPlaces }

// shrink removes the void places.
func (o *rowOrder) shrink(rows []row) {
	kept := 0
	for i := range o.places {
		if at, found := o.at(rows, i); found {
			o.sequences[kept], o.places[kept] = o.sequences[i], at
			kept++
		}
	}
	o.sequences, o.places = o.sequences[:kept], o.places[:kept]
	o.head = 0
}
