package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

func newTestHand() *hand { return newHand(route.NewRoom(), newBackpressure()) }

func (h *hand) add(o *owned, now time.Time) {
	h.pressure.enter()
	h.put(o, now)
}

func TestAJobInHandStandsInTheWaitingRoomsOrder(t *testing.T) {
	t.Parallel()
	h, o := newTestHand(), ownedJob(t, "acme", 7, 1)
	h.add(o, noonUTC)
	ticket, waits := h.room.ByJob("acme", "acme-7")
	same(t, "waits", []any{waits, ticket.Sequence, ticket.Revision, h.has(7), h.len()}, []any{true, uint64(7), uint64(0), true, 1})
	same(t, "counts", []any{h.pressure.underWay.Load(), h.pressure.line.hand[job.Usual].Load(), h.tenants["acme"]}, []any{int64(1), int64(1), 1})
	same(t, "taken", h.take(7) == o, true)
	same(t, "afterwards", []any{h.pressure.underWay.Load(), h.pressure.line.hand[job.Usual].Load(), len(h.tenants), h.room.Len(), h.has(7)},
		[]any{int64(0), int64(0), 0, 0, false})
	same(t, "another time", []any{h.take(7) == nil, h.pressure.underWay.Load()}, []any{true, int64(0)})
}

func TestAJobWaitsInHandForTenTimesAsLongWhileManyLeave(t *testing.T) {
	t.Parallel()
	h := newTestHand()
	h.add(ownedJob(t, "acme", 1, 1), noonUTC)
	h.add(ownedJob(t, "acme", 2, 1), noonUTC.Add(time.Millisecond))
	late := func(at time.Time) []uint64 {
		var sequences []uint64
		for _, o := range h.takeLate(at) {
			sequences = append(sequences, o.job.Sequence)
		}
		return sequences
	}
	same(t, "after 99 ms", late(noonUTC.Add(99*time.Millisecond)), []uint64(nil))
	same(t, "after 100 ms", late(noonUTC.Add(100*time.Millisecond)), []uint64{1})
	for range manyPlaced + 1 {
		h.pressure.placed(noonUTC.Add(900 * time.Millisecond))
	}
	same(t, "while many leave", late(noonUTC.Add(1000*time.Millisecond)), []uint64(nil))
	same(t, "after a second", late(noonUTC.Add(1001*time.Millisecond)), []uint64{2})
}

func TestNoJobStaysLongerInHandWhileOnlySomeLeave(t *testing.T) {
	t.Parallel()
	h := newTestHand()
	h.add(ownedJob(t, "acme", 1, 1), noonUTC)
	for range manyPlaced {
		h.pressure.placed(noonUTC)
	}
	same(t, "late", len(h.takeLate(noonUTC.Add(100*time.Millisecond))), 1)
}

func TestTheNewestJobOfWhoHasMostMakesRoomForWhoHasFewer(t *testing.T) {
	t.Parallel()
	h := newTestHand()
	for sequence := range uint64(3) {
		h.add(ownedJob(t, "acme", sequence+1, 1), noonUTC)
	}
	h.add(ownedJob(t, "bolt", 9, 1), noonUTC)
	same(t, "for acme itself", h.takeForOther("acme") == nil, true)
	same(t, "for bolt", h.takeForOther("bolt").job.Sequence, uint64(3)) // three and one: two and two
	same(t, "for bolt again", h.takeForOther("bolt") == nil, true)
	same(t, "for coil", h.takeForOther("coil").job.Sequence, uint64(2))
	same(t, "all", len(h.takeAll()), 2)
	same(t, "empty", []any{h.len(), h.takeForOther("coil") == nil, h.pressure.underWay.Load()}, []any{0, true, int64(0)})
}
