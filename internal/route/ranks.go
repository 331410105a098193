package route

import "slices"

// ranks is a set of sequences that says quickly how many are lower than one. It is a list of sorted lists, so that to
// add or take out one moves few of the others.
type ranks struct{ parts [][]uint64 } // none is empty

// rankPart is how many sequences a part has at most.
const rankPart = 512

// part returns the place of the part that has a sequence, or would have it.
func (r *ranks) part(sequence uint64) int {
	k, found := slices.BinarySearchFunc(r.parts, sequence, func(part []uint64, sequence uint64) int {
		switch {
		case part[0] < sequence:
			return -1
		case part[0] > sequence:
			return 1
		}
		return 0
	})
	if found || k == 0 {
		return k
	}
	return k - 1
}

// add adds a sequence that is not there.
func (r *ranks) add(sequence uint64) {
	if len(r.parts) == 0 {
		r.parts = [][]uint64{{sequence}}
		return
	}
	k := min(r.part(sequence), len(r.parts)-1)
	part := r.parts[k]
	at, _ := slices.BinarySearch(part, sequence)
	switch {
	case len(part) < rankPart:
		r.parts[k] = slices.Insert(part, at, sequence)
	case k == len(r.parts)-1 && at == rankPart: // the usual case: it is the last of all
		r.parts = append(r.parts, []uint64{sequence})
	default:
		r.parts = slices.Insert(r.parts, k+1, slices.Clone(part[rankPart/2:]))
		r.parts[k] = part[:rankPart/2]
		r.add(sequence)
	}
}

// remove takes out a sequence that is there.
func (r *ranks) remove(sequence uint64) {
	k := r.part(sequence)
	at, _ := slices.BinarySearch(r.parts[k], sequence)
	if r.parts[k] = slices.Delete(r.parts[k], at, at+1); len(r.parts[k]) == 0 {
		r.parts = slices.Delete(r.parts, k, k+1)
	}
	if len(r.parts) == 0 {
		r.parts = nil
	}
}

// first is the lowest of them; 0 when there is none.
func (r *ranks) first() uint64 {
	if len(r.parts) == 0 {
		return 0
	}
	return r.parts[0][0]
}

// below is how many are lower than a sequence.
func (r *ranks) below(sequence uint64) int {
	if len(r.parts) == 0 {
		return 0
	}
	k, n := min(r.part(sequence), len(r.parts)-1), 0
	for _, part := range r.parts[:k] {
		n += len(part)
	}
	at, _ := slices.BinarySearch(r.parts[k], sequence)
	return n + at
}
