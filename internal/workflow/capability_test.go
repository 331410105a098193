package workflow_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

var needed = workflow.Requirements{
	Classes: []string{"Loader", "Sampler"},
	Models: []workflow.ModelRef{
		{Class: "Loader", Input: "ckpt", File: "a/x.ckpt"},
		{Class: "Loader", Input: "ckpt", File: "y.ckpt"},
		{Class: "Sampler", Input: "text", File: "z.bin"},
	},
}

func capability(build func(b *workflow.CapabilityBuilder)) workflow.Capability {
	var b workflow.CapabilityBuilder
	build(&b)
	return workflow.NewCapability(&b)
}

func TestMissing(t *testing.T) {
	t.Parallel()
	both := func(b *workflow.CapabilityBuilder) { b.AddClass("Sampler"); b.AddClass("Loader") }
	cases := []struct {
		name string
		host workflow.Capability
		want []string
	}{
		{"NothingAtAll", workflow.Capability{}, []string{"missing node Loader", "missing node Sampler"}},
		{"AClass", capability(func(b *workflow.CapabilityBuilder) { b.AddClass("Loader"); b.AddClass("Other") }), []string{"missing node Sampler"}},
		{"WhatIsNotEnumeratedIsNotHeldAgainstIt", capability(both), nil},
		{"EnumeratedAndListed", capability(func(b *workflow.CapabilityBuilder) {
			both(b)
			b.AddChoices("Loader", "ckpt", []string{"y.ckpt", `a\x.ckpt`, "euler"})
		}), nil},
		{"EnumeratedAndNotListed", capability(func(b *workflow.CapabilityBuilder) {
			both(b)
			b.AddChoices("Loader", "ckpt", []string{"x.ckpt", "y.ckpt"})
		}), []string{"missing model a/x.ckpt in Loader.ckpt"}},
		{"EnumeratedAndEmpty", capability(func(b *workflow.CapabilityBuilder) {
			both(b)
			b.AddChoices("Loader", "ckpt", nil)
		}), []string{"missing model a/x.ckpt in Loader.ckpt", "missing model y.ckpt in Loader.ckpt"}},
		{"ListedForAnotherInput", capability(func(b *workflow.CapabilityBuilder) {
			both(b)
			b.AddChoices("Loader", "vae", []string{"z.bin"})
			b.AddChoices("Sampler", "text", []string{"a/x.ckpt"})
		}), []string{"missing model z.bin in Sampler.text"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, m := range needed.Missing(c.host) {
				got = append(got, m.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if met := needed.Compile().MetBy(c.host); met != (c.want == nil) {
				t.Errorf("MetBy = %t", met)
			}
		})
	}
}

func TestMissingIsNilWhenCapable(t *testing.T) {
	t.Parallel()
	if missing := (workflow.Requirements{}).Missing(workflow.Capability{}); missing != nil {
		t.Fatalf("%#v", missing)
	}
}

func TestCapabilityOfAnySizeFindsEveryName(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 3, 5, 100, 5000} {
		var b workflow.CapabilityBuilder
		for i := range size {
			b.AddClass(fmt.Sprint(i))
			b.AddClass(fmt.Sprint(i)) // twice is once
		}
		c := workflow.NewCapability(&b)
		if c.Len() != size {
			t.Fatalf("%d classes make %d values", size, c.Len())
		}
		for i := range 2 * size {
			has := workflow.Requirements{Classes: []string{fmt.Sprint(i)}}.Compile().MetBy(c)
			if has != (i < size) || c.HasClass(fmt.Sprint(i)) != has {
				t.Fatalf("of %d classes, class %d is there: %t", size, i, has)
			}
		}
	}
}

func TestCapabilitySurvivesItsBinaryForm(t *testing.T) {
	t.Parallel()
	c := capability(func(b *workflow.CapabilityBuilder) {
		b.AddClass("Loader")
		b.AddChoices("Loader", "ckpt", []string{"y.ckpt"})
	})
	for _, c := range []workflow.Capability{c, {}} {
		raw, err := c.MarshalBinary()
		if err != nil || len(raw) != 4+8*c.Len() {
			t.Fatalf("%d values are written as %d bytes, %v", c.Len(), len(raw), err)
		}
		var back workflow.Capability
		if err := back.UnmarshalBinary(raw); err != nil {
			t.Fatal(err)
		}
		if back.Len() != c.Len() || back.Digest() != c.Digest() {
			t.Errorf("read %d values, digest %x; want %d, %x", back.Len(), back.Digest(), c.Len(), c.Digest())
		}
		if diff := cmp.Diff(needed.Missing(c), needed.Missing(back)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestCapabilityRefusesForeignBytes(t *testing.T) {
	t.Parallel()
	values := func(values ...uint64) []byte {
		raw := []byte("cap\x01")
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint64(raw, v)
		}
		return raw
	}
	c := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("A") })
	for _, raw := range [][]byte{nil, {}, []byte("cap"), []byte("cap\x02"), []byte("{}"), values(1)[:9], values(2, 1), values(1, 1)} {
		if err := c.UnmarshalBinary(raw); err == nil || c.Len() != 1 {
			t.Errorf("%q: %v, %d values", raw, err, c.Len())
		}
	}
	long := make([]uint64, 120_001)
	for i := range long {
		long[i] = uint64(i)
	}
	if err := c.UnmarshalBinary(values(long...)); err == nil || c.Len() != 1 || !strings.Contains(err.Error(), "it has 120001 values, and a host has at most 120000") {
		t.Errorf("of too many values %d are taken, %v", c.Len(), err)
	}
	if err := c.UnmarshalBinary(values(long[:120_000]...)); err != nil || c.Len() != 120_000 {
		t.Errorf("of as many values as there may be %d are taken, %v", c.Len(), err)
	}
	if err := c.UnmarshalBinary(values(0, 1, 1<<63, 1<<64-1)); err != nil || c.Len() != 4 {
		t.Errorf("%v, %d values", err, c.Len())
	}
}

func TestAFileIsKeptOnce(t *testing.T) {
	t.Parallel()
	c := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("A", "f", []string{"x.ckpt", "none"}) })
	if c.Len() != 4 { // the input, its list, the file, the other choice
		t.Errorf("%d values", c.Len())
	}
}

func TestABinaryFormIsRecognisedWithoutReadingIt(t *testing.T) {
	t.Parallel()
	c := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("KSampler"); b.AddClass("SaveImage") })
	other := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("KSampler"); b.AddClass("VAEDecode") })
	data, err := c.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte("cap\x00"), data[4:]...)
	if !c.Marshals(data) || other.Marshals(data) || c.Marshals(data[:len(data)-8]) || c.Marshals(foreign) || c.Marshals(nil) {
		t.Error("the form of another capability is taken for its own, or the reverse")
	}
	if !c.Equal(c) || c.Equal(other) {
		t.Error("capabilities are equal by something else than their values")
	}
}

func TestDigestIsOfTheSetAlone(t *testing.T) {
	t.Parallel()
	ab := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("A"); b.AddClass("B") })
	ba := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("B"); b.AddClass("A"); b.AddClass("B") })
	joined := capability(func(b *workflow.CapabilityBuilder) { b.AddClass("AB") })
	if ab.Digest() != ba.Digest() || ab.Digest() == joined.Digest() || ab.Digest() == (workflow.Capability{}).Digest() {
		t.Fatalf("digests %x, %x, %x", ab.Digest(), ba.Digest(), joined.Digest())
	}
}

func TestABuilderMayBeUsedOn(t *testing.T) {
	t.Parallel()
	var b workflow.CapabilityBuilder
	b.AddClass("A")
	first := workflow.NewCapability(&b)
	b.AddClass("B")
	if second := workflow.NewCapability(&b); first.Len() != 1 || second.Len() != 2 {
		t.Fatalf("%d and %d values", first.Len(), second.Len())
	}
}

func TestMetByAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun wants to run alone
	need, host := needed.Compile(), capability(func(b *workflow.CapabilityBuilder) { b.AddClass("Loader"); b.AddClass("Sampler") })
	if allocs := testing.AllocsPerRun(100, func() { _ = need.MetBy(host) }); allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}
