package route_test

import (
	"encoding/binary"
	"math"
	"math/bits"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// installed is a capability of some values.
func installed(t *testing.T, values ...uint64) (c workflow.Capability) {
	t.Helper()
	data := []byte("cap\x01")
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, v)
	}
	if err := c.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	return c
}

// forged are the values of two capabilities with one digest: xxhash64 adds every fourth value to one sum, so that a fifth
// value can undo what the first has changed.
func forged() (values, others []uint64) {
	const p1, p2 uint64 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f
	round := func(sum, v uint64) uint64 { return bits.RotateLeft64(sum+v*p2, 31) * p1 }
	inverse := p2
	for range 6 {
		inverse *= 2 - p2*inverse
	}
	sum, first, second, fifth := p1, uint64(1), uint64(2), uint64(1<<40)
	sum += p2
	changed := fifth + (round(sum, first)-round(sum, second))*inverse
	end := uint64(math.MaxUint64)
	values = []uint64{first, 10, 11, 12, fifth, end - 2, end - 1, end}
	return values, []uint64{second, 10, 11, 12, changed, end - 2, end - 1, end}
}

func TestHostsThatAreInstalledAlikeDoNotVary(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"))
	f.PutCapability("a", installed(t, 1, 2, 3))
	f.PutCapability("b", installed(t, 1, 2, 3))
	if f.Varied() {
		t.Error("two hosts of one capability count as different")
	}
	f.RemoveCapability("a")
	if f.Capability("a").Len() != 0 || f.Capability("b").Len() != 3 || f.Capability("nowhere").Len() != 0 {
		t.Errorf("a has %d values, b %d", f.Capability("a").Len(), f.Capability("b").Len())
	}
}

func TestNoHostSpeaksForOthersByForgingTheirDigest(t *testing.T) {
	t.Parallel()
	values, others := forged()
	c, forgery := installed(t, values...), installed(t, others...)
	if c.Digest() != forgery.Digest() {
		t.Fatal("the digests differ, so that this test shows nothing")
	}
	f := fleet(online("liar"), online("honest"))
	f.PutCapability("liar", forgery)
	f.PutCapability("honest", c)
	if !f.Capability("honest").Equal(c) || !f.Capability("liar").Equal(forgery) || !f.Varied() {
		t.Error("one of the two has the other's capability")
	}
	f.RemoveCapability("liar")
	if !f.Capability("honest").Equal(c) {
		t.Error("the honest host's capability is gone")
	}
	f.PutCapability("liar", forgery)
	f.PutCapability("honest", forgery)
	if f.Varied() {
		t.Error("two hosts of one capability count as different")
	}
}
