package dispatcher

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// blocked has a block stand on host a, with the strikes that made it.
func (w *strikeWire) blocked(t *testing.T, hash workflow.Hash, kind failure.Kind) {
	t.Helper()
	block := route.Block{Host: "a", Hash: hash, Kind: kind, Job: "acme-1", Tenants: []route.Tenant{"acme"}, Until: noonUTC.Add(time.Hour)}
	value, err := json.Marshal(block)
	if err != nil {
		t.Fatal(err)
	}
	w.revision++
	w.setStrikes("a", hash, route.Strikes{Tenants: map[route.Tenant]int{"acme": 2}, Level: 1, Open: &block, Last: noonUTC})
	w.revision++
	if err := w.setBlock("a", hash, value); err != nil {
		t.Fatal(err)
	}
}

func TestASuccessLiftsTheBlockThatHasLostItsReason(t *testing.T) {
	t.Parallel()
	hash := hashOfGraph(t, 1)
	for name, c := range map[string]struct {
		tenant job.Tenant
		at     time.Duration // after the failure
		before func(w *strikeWire)
		want   []string
	}{
		"its tenant's":       {"acme", time.Second, func(*strikeWire) {}, []string{"strike a 0", "lift a recovered"}},
		"another tenant's":   {"bolt", time.Second, func(*strikeWire) {}, nil},
		"one before":         {"acme", -time.Second, func(*strikeWire) {}, nil},
		"of a pair in order": {"acme", time.Second, func(w *strikeWire) { clear(w.strikes) }, nil},
		"when the block has just ended": {"acme", time.Second, func(w *strikeWire) {
			w.first["read block"] = func() { clear(w.blocks) }
		}, []string{"strike a 0"}},
		"when strikes cannot be read":    {"acme", time.Second, func(w *strikeWire) { w.away["read strikes"] = errors.New("away") }, nil},
		"when strikes cannot be written": {"acme", time.Second, func(w *strikeWire) { w.away["strike"] = errors.New("away") }, nil},
		"when there was no block": {"acme", time.Second, func(w *strikeWire) {
			strikes := w.strikes[pair{"a", hash}].Value
			strikes.Open = nil
			w.setStrikes("a", hash, strikes)
		}, []string{"strike a 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, d := newStrikes(t)
			w.blocked(t, hash, failure.Timeout)
			c.before(w)
			d.countSuccess(t.Context(), "a", &queue.EndedJob{Tenant: c.tenant, Hash: hash, Job: "x"}, noonUTC.Add(c.at))
			same(t, "written", w.written(), c.want)
		})
	}
}

// The strikes forget the block first: they would open it again otherwise.
func TestABlockIsLiftedWhenTheHostHasWhatItLacked(t *testing.T) {
	t.Parallel()
	hash := hashOfGraph(t, 1)
	for name, c := range map[string]struct {
		before func(w *strikeWire)
		want   []string
	}{
		"it stands":                    {func(*strikeWire) {}, []string{"strike a 2", "lift a capability_changed"}},
		"it has ended":                 {func(w *strikeWire) { clear(w.blocks) }, nil},
		"it cannot be read":            {func(w *strikeWire) { w.away["read block"] = errors.New("away") }, nil},
		"strikes cannot be changed":    {func(w *strikeWire) { w.away["strike"] = errors.New("away") }, nil},
		"it has no strikes":            {func(w *strikeWire) { clear(w.strikes) }, []string{"lift a capability_changed"}},
		"its strikes have no block":    {func(w *strikeWire) { w.setStrikes("a", hash, route.Strikes{Level: 1}) }, []string{"lift a capability_changed"}},
		"it was replaced a moment ago": {func(w *strikeWire) { w.first["strike"] = func() { w.blocked(t, hash, failure.Incapable) } }, []string{"strike a 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, d := newStrikes(t)
			w.blocked(t, hash, failure.Incapable)
			c.before(w)
			d.liftIncapable(t.Context(), "a", []workflow.Hash{hash})
			same(t, "written", w.written(), c.want)
			if strikes := w.strikes[pair{"a", hash}]; len(c.want) > 0 && strikes.Value.Open != nil {
				t.Errorf("the strikes still have the block: %+v", strikes.Value)
			}
		})
	}
}

func TestGuiltIsStoredOncePerTenant(t *testing.T) {
	t.Parallel()
	w, d := newStrikes(t)
	for _, tenant := range []string{"acme", "acme", "bolt"} {
		same(t, "error", d.storeGuilt(t.Context(), ownedJob(t, tenant, 1, 1), "a", "two hosts went down"), error(nil))
	}
	same(t, "written", w.written(), []string{"strike a 0", "strike a 0"})
	same(t, "guilty", w.strikes[pair{"a", hashOfGraph(t, 1)}].Value.Guilty, map[route.Tenant]string{
		"acme": "job acme-1: two hosts went down", "bolt": "job bolt-1: two hosts went down",
	})
	w.away["strike"] = errors.New("away")
	err := d.storeGuilt(t.Context(), ownedJob(t, "coil", 1, 1), "a", "two hosts went down")
	same(t, "when NATS is away", errors.Is(err, w.away["strike"]), true)
}

func TestABlockIsOpenedReplacedOrLeftAlone(t *testing.T) {
	t.Parallel()
	hash := hashOfGraph(t, 1)
	base := route.Block{
		Host: "a", Hash: hash, Kind: failure.OutOfMemory, Tenants: []route.Tenant{"acme"}, Until: noonUTC.Add(time.Hour), Size: 9, Own: map[route.Tenant]int64{"acme": 3},
	}
	for name, c := range map[string]struct {
		edit func(b *route.Block)
		want []string
	}{
		"the same":        {func(*route.Block) {}, nil},
		"another message": {func(b *route.Block) { b.Message = "again" }, nil},
		"longer":          {func(b *route.Block) { b.Until = noonUTC.Add(2 * time.Hour) }, []string{"replace a"}},
		"smaller jobs":    {func(b *route.Block) { b.Size = 5 }, []string{"replace a"}},
		"more tenants":    {func(b *route.Block) { b.Tenants = []route.Tenant{"acme", "bolt"} }, []string{"replace a"}},
		"its own size":    {func(b *route.Block) { b.Own = map[route.Tenant]int64{"acme": 4} }, []string{"replace a"}},
		"one that is over": {func(b *route.Block) {
			b.Until = noonUTC
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, d := newStrikes(t)
			block := base
			same(t, "error", d.openBlock(t.Context(), &block), error(nil))
			same(t, "opened", w.written(), []string{"block a for 1h0m0s"})
			c.edit(&block)
			same(t, "error", d.openBlock(t.Context(), &block), error(nil))
			same(t, "then", w.written(), c.want)
		})
	}
}

func TestABlockIsOpenedAlthoughAnotherEndsOrComesMeanwhile(t *testing.T) {
	t.Parallel()
	hash := hashOfGraph(t, 1)
	block := route.Block{Host: "a", Hash: hash, Kind: failure.Timeout, Tenants: []route.Tenant{"acme"}, Until: noonUTC.Add(time.Minute)}
	w, d := newStrikes(t)
	w.blocked(t, hash, failure.Timeout)
	w.first["read block"] = func() { clear(w.blocks) }
	same(t, "error", d.openBlock(t.Context(), &block), error(nil))
	same(t, "when the one that stood has ended", w.written(), []string{"block a for 1m0s"})
	w.blocked(t, hash, failure.Timeout)
	w.first["replace"] = func() { w.blocked(t, hash, failure.Timeout) }
	same(t, "error", d.openBlock(t.Context(), &block), error(nil))
	same(t, "when another comes before it is replaced", w.written(), []string{"replace a"})
	w.blocks[pair{"a", hash}] = queue.Change[route.Block]{Phase: queue.Invalid, Revision: 99}
	same(t, "error", d.openBlock(t.Context(), &block), error(nil))
	same(t, "when one stands that cannot be read", w.written(), []string{"replace a"})
	for _, what := range []string{"block", "read block", "replace"} {
		w, d := newStrikes(t)
		w.blocked(t, hash, failure.Timeout)
		w.away[what] = errors.New("away")
		same(t, "when NATS is away: "+what, errors.Is(d.openBlock(t.Context(), &block), w.away[what]), true)
	}
}
