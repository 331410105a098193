package workflow_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// realistic is a text-to-image workflow of 2 kB with a LoRA, a VAE and an
// upscaler, as ComfyUI exports it (without the line breaks).
func realistic(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/txt2img-lora-upscale.json")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// BenchmarkParse parses, checks and hashes.
func BenchmarkParse(b *testing.B) {
	raw := realistic(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := workflow.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	raw := realistic(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := workflow.HashOf(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequirements(b *testing.B) {
	g := parse(b, string(realistic(b)))
	b.ReportAllocs()
	for b.Loop() {
		_ = g.Requirements()
	}
}

func BenchmarkPrepare(b *testing.B) {
	g := parse(b, string(realistic(b)))
	p := workflow.Preparation{
		Seed:   func() uint64 { return 1 },
		Prefix: "comfyherd/0b0e7b0e-7c1d-5a55-9d1c-0d6f5e1f7a11",
		Spell:  func(_, _, file string) string { return file },
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Prepare(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMetBy compares one workflow with a host of 5 000 classes and files.
func BenchmarkMetBy(b *testing.B) {
	g := parse(b, string(realistic(b)))
	var builder workflow.CapabilityBuilder
	for i := range 3000 {
		builder.AddClass(fmt.Sprintf("Class%d", i))
	}
	files := make([]string, 2000)
	for i := range files {
		files[i] = fmt.Sprintf("model-%d.safetensors", i)
	}
	for _, m := range g.Requirements().Models {
		builder.AddChoices(m.Class, m.Input, append(files[:500:500], m.File))
	}
	for _, class := range g.Requirements().Classes {
		builder.AddClass(class)
	}
	host, need := workflow.NewCapability(&builder), g.Requirements().Compile()
	b.ReportAllocs()
	for b.Loop() {
		if !need.MetBy(host) {
			b.Fatal("the host is capable")
		}
	}
}

// BenchmarkOptions reads the options of a workflow.
func BenchmarkOptions(b *testing.B) {
	g := parse(b, string(realistic(b)))
	b.ReportAllocs()
	for b.Loop() {
		_ = g.Options()
	}
}

// BenchmarkLacks compares the options of a workflow with a host of 12 000
// classes and choices that lists them all.
func BenchmarkLacks(b *testing.B) {
	g := parse(b, string(realistic(b)))
	var builder workflow.CapabilityBuilder
	for i := range 2000 {
		builder.AddClass(fmt.Sprintf("Class%d", i))
		builder.AddChoices(fmt.Sprintf("Class%d", i), "mode", []string{"a", "b", "c"})
	}
	builder.AddChoices("KSampler", "sampler_name", []string{"euler", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde"})
	builder.AddChoices("KSampler", "scheduler", []string{"normal", "karras", "simple"})
	host, options := workflow.NewCapability(&builder), g.Options()
	b.ReportAllocs()
	for b.Loop() {
		if host.Lacks(options) != nil {
			b.Fatal("the host has them")
		}
	}
}
