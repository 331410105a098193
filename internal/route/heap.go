package route

// These are the functions of container/heap without its interface, whose Push and Pop allocate. With the interface this file
// would be 9 lines shorter, and to take out the best of 100 000 jobs that can run would cost twice as much
// (go test ./internal/route -bench Next).

// order says which of two elements of a heap comes first. moved is called with the new place of an element.
type order[T any] interface {
	before(a, b T) bool
	moved(x T, at int)
}

// heapPush adds x to a binary heap.
func heapPush[T any, O order[T]](h []T, x T, o O) []T {
	h = append(h, x)
	o.moved(x, len(h)-1)
	heapUp(h, len(h)-1, o)
	return h
}

// heapRemove takes out the element at a place.
func heapRemove[T any, O order[T]](h []T, at int, o O) []T {
	var zero T
	last := len(h) - 1
	heapSwap(h, at, last, o)
	o.moved(h[last], -1)
	h[last] = zero
	h = h[:last]
	if at < last {
		heapFix(h, at, o)
	}
	return h
}

// heapFix puts right an element whose order has changed.
func heapFix[T any, O order[T]](h []T, at int, o O) {
	if !heapDown(h, at, o) {
		heapUp(h, at, o)
	}
}

func heapUp[T any, O order[T]](h []T, i int, o O) {
	for i > 0 && o.before(h[i], h[(i-1)/2]) {
		heapSwap(h, i, (i-1)/2, o)
		i = (i - 1) / 2
	}
}

func heapDown[T any, O order[T]](h []T, i int, o O) bool {
	from := i
	for {
		k := 2*i + 1
		if k >= len(h) {
			break
		}
		if k+1 < len(h) && o.before(h[k+1], h[k]) {
			k++
		}
		if !o.before(h[k], h[i]) {
			break
		}
		heapSwap(h, i, k, o)
		i = k
	}
	return i > from
}

func heapSwap[T any, O order[T]](h []T, i, k int, o O) {
	h[i], h[k] = h[k], h[i]
	o.moved(h[i], i)
	o.moved(h[k], k)
}

// frontier orders positions in a heap by the classes at these positions.
type frontier struct {
	classes []*class
	byHead
}

func (o frontier) before(i, k int) bool { return o.byHead.before(o.classes[i], o.classes[k]) }
func (frontier) moved(int, int)         {}
