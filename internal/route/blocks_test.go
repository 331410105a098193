package route_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/route"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestABlockIsGivenBackAsItWasPut(t *testing.T) {
	t.Parallel()
	whole := route.Block{
		Host: "a", Hash: hashOf(1), Kind: "execution_error", Message: "boom", Job: "j", Tenant: "acme", Tenants: []route.Tenant{"acme", "bolt"},
		Failures: 3, Level: 2, Until: noon,
	}
	odd := route.Block{
		Host: "b", Hash: hashOf(1), Kind: "out_of_memory", Tenants: []route.Tenant{"acme"}, Size: 500, Own: map[route.Tenant]int64{"bolt": 64},
	}
	f := fleet(online("a"), online("b"))
	for range 2 {
		f.PutBlock(odd)
		f.PutBlock(whole)
	}
	for _, want := range []route.Block{whole, odd} {
		got, stands := f.Blocked(want.Host, want.Hash)
		same(t, "block", got, want)
		same(t, "stands", stands && f.HasBlock(want.Host, want.Hash), true)
	}
	f.PutStrikes("b", hashOf(2), route.Strikes{})
	pairs, always := map[string]int{}, func() bool { return true }
	for host, hash := range f.EachBlock(always) {
		pairs["block "+string(host+" ")+string(hash[63:])]++
	}
	for host, hash := range f.EachStruck(always) {
		pairs["strikes "+string(host+" ")+string(hash[63:])]++
	}
	same(t, "pairs", pairs, map[string]int{"block a 1": 1, "block b 1": 1, "strikes b 2": 1})
	same(t, "struck", []bool{f.Struck("b", hashOf(2)), f.Struck("a", hashOf(2)), f.Struck("b", hashOf(1)), f.Struck("c", hashOf(3))}, []bool{true, false, false, false})
	f.RemoveStrikes("b", hashOf(2))
	same(t, "removed", []bool{f.RemoveBlock("a", hashOf(1)), f.RemoveBlock("a", hashOf(1)), f.RemoveBlock("b", hashOf(1)), f.RemoveBlock("c", hashOf(1))}, []bool{true, false, true, false})
	same(t, "left", []bool{f.Struck("b", hashOf(2)), f.HasBlock("a", hashOf(1)), f.HasBlock("nowhere", hashOf(1)), f.BlockCount() > 0}, []bool{false, false, false, false})
}
