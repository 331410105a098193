package route_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// FuzzStrikes takes values that another program may have written into COMFY_STRIKES and COMFY_BLOCKS through all code that uses them.
func FuzzStrikes(f *testing.F) {
	for _, body := range []string{
		"", "null", "{}", `{"tenants":{"acme":-7},"memory":{"":-3},"level":2000000000,"size":-4,"marks":[1,2,3],"open":{"until":"0001-01-01T00:00:00Z"}}`,
		`{"level":-5,"open":{"host":"b","hash":"zz","kind":"mood","tenants":[],"until":"9999-12-31T00:00:00Z"}}`,
		`{"unknown":true,"ran":-2,"size":9223372036854775807,"open":{"kind":"out_of_memory","tenants":["acme"],"size":-1,"until":"2999-01-01T00:00:00Z"}}`,
	} {
		f.Add([]byte(body), int64(64))
	}
	f.Fuzz(func(t *testing.T, body []byte, size int64) {
		var s route.Strikes
		if json.Unmarshal(body, &s) != nil {
			return
		}
		p := route.Production()
		for _, kind := range append(failure.Kinds(), "mood") {
			strike := route.Strike{Host: "a", Hash: hashOf(1), Attempt: failure.Attempt{Host: "a", Kind: kind}, Tenant: "acme", Size: size, Mark: 9}
			after, block := s.Add(strike, noon, p)
			if again, twice := after.Add(strike, noon, p); twice != nil || again.Level != after.Level {
				t.Errorf("a second count of %s changes %+v to %+v", kind, after, again)
			}
			if kept := p.StrikesFor(after.Level); kept < 10*p.Cooldown || kept > 10*p.Cap {
				t.Errorf("strikes of level %d are kept for %v", after.Level, kept)
			}
			_, _, _ = after.Success("acme", size, noon, noon)
			useBlock(t, after, block, size)
		}
	})
}

// useBlock puts a block in force: it must hold for somebody, end, and leave nothing behind.
func useBlock(t *testing.T, s route.Strikes, b *route.Block, size int64) {
	t.Helper()
	fleet := route.NewFleet()
	fleet.PutHost(online("a"))
	fleet.PutStrikes("a", hashOf(1), s)
	if b == nil {
		return
	}
	if len(b.Tenants) == 0 {
		t.Errorf("a block for nobody: %+v", b)
	}
	block := *b
	block.Host, block.Hash = "a", hashOf(1)
	fleet.PutBlock(block)
	want := route.Want{Hash: hashOf(1), Tenant: block.Tenants[0], Size: max(size, block.Size)}
	fleet.Explain(want, noon)
	fleet.Hold(want, noon)
	if fleet.May(want, "a", noon.Add(time.Hour)) {
		t.Errorf("the block does not hold for what led to it: %+v", block)
	}
	if !fleet.RemoveBlock("a", hashOf(1)) {
		t.Errorf("the block is gone before it was removed: %+v", block)
	}
	if n := fleet.BlockCount(); n != 0 {
		t.Errorf("%d blocks are left", n)
	}
}
