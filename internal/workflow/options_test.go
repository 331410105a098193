package workflow_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// wishes is a workflow that leaves much to what a host lists.
const wishes = `{
	"1":{"class_type":"Sampler","inputs":{"scheduler":"beta57","steps":8,"tiled":true,"model":["2",0],"text":"a fox\nin snow"}},
	"2":{"class_type":"Folders","inputs":{"path":"hub\\sd15","file":"x.safetensors","plan":"a/b.engine","nested":{"scheduler":"beta57"},"none":null}},
	"3":{"class_type":"Sampler","inputs":{"scheduler":"beta57"}}}`

func lacks(c workflow.Capability, o workflow.Options) []string {
	var texts []string
	for _, m := range c.Lacks(o) {
		texts = append(texts, m.String())
	}
	return texts
}

func TestAHostLacksWhatItDoesNotList(t *testing.T) {
	t.Parallel()
	options := parse(t, wishes).Options()
	for _, c := range []struct {
		name  string
		build func(b *workflow.CapabilityBuilder)
		want  []string
	}{
		{"NothingIsEnumerated", func(b *workflow.CapabilityBuilder) { b.AddClass("Sampler") }, nil},
		{"Listed", func(b *workflow.CapabilityBuilder) {
			b.AddChoices("Sampler", "scheduler", []string{"simple", "beta57"})
			b.AddChoices("Sampler", "steps", nil, 4, 8)
			b.AddChoices("Sampler", "tiled", nil, 1)
			b.AddChoices("Folders", "path", []string{"hub/sd15"})
			b.AddChoices("Folders", "plan", []string{`a\b.engine`})
		}, nil},
		{"NotListed", func(b *workflow.CapabilityBuilder) {
			b.AddChoices("Sampler", "scheduler", []string{"simple"})
			b.AddChoices("Sampler", "steps", []string{"8"}, 4)
			b.AddChoices("Sampler", "tiled", nil, 0)
			b.AddChoices("Folders", "path", []string{"sd15"})
			b.AddChoices("Folders", "plan", []string{"b.engine"})
		}, []string{
			`missing option "beta57" in Sampler.scheduler`, `missing option "8" in Sampler.steps`, `missing option "true" in Sampler.tiled`,
			`missing option "hub\\sd15" in Folders.path`, `missing model a/b.engine in Folders.plan`,
		}},
		{"EnumeratedWithNothing", func(b *workflow.CapabilityBuilder) { b.AddChoices("Folders", "path", nil) },
			[]string{`missing option "hub\\sd15" in Folders.path`}},
		{"LinksNestedAndManyLinesAreNoChoices", func(b *workflow.CapabilityBuilder) {
			b.AddChoices("Sampler", "model", nil)
			b.AddChoices("Sampler", "text", nil)
			b.AddChoices("Folders", "nested", nil)
			b.AddChoices("Folders", "none", nil)
		}, nil},
		{"FilesAreTheHashs", func(b *workflow.CapabilityBuilder) { b.AddChoices("Folders", "file", nil) }, nil},
		{"AnOpenListTakesMore", func(b *workflow.CapabilityBuilder) { b.AddFiles("Sampler", "scheduler", []string{"simple"}) }, nil},
		{"ListedForAnotherInput", func(b *workflow.CapabilityBuilder) {
			b.AddChoices("Sampler", "scheduler", nil)
			b.AddChoices("Sampler", "sampler", []string{"beta57"})
			b.AddChoices("Other", "scheduler", []string{"beta57"})
		}, []string{`missing option "beta57" in Sampler.scheduler`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host := capability(c.build)
			if diff := cmp.Diff(c.want, lacks(host, options)); diff != "" {
				t.Error(diff)
			}
			if met := options.MetBy(host); met != (c.want == nil) {
				t.Errorf("MetBy = %t", met)
			}
		})
	}
}

func TestAnOptionIsCalledAModelWhenItIsOne(t *testing.T) {
	t.Parallel()
	host := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("A", "x", nil) })
	for text, want := range map[string]string{
		"a.pt2": "missing model a.pt2 in A.x", "a.TorchScript": "missing model a.TorchScript in A.x", "a.patch": "missing model a.patch in A.x",
		"b/a.engine": "missing model b/a.engine in A.x", "engine": `missing option "engine" in A.x`, ".engine": "missing model .engine in A.x",
		"a.png": `missing option "a.png" in A.x`,
	} {
		g := parse(t, `{"1":{"class_type":"A","inputs":{"x":"`+text+`"}}}`)
		if got := lacks(host, g.Options()); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestNumbersAreListedByValue(t *testing.T) {
	t.Parallel()
	host := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("A", "n", []string{"16"}, 0, 1, 8, 2.5) })
	for value, listed := range map[string]bool{
		"8": true, "8.0": true, "80e-1": true, "2.5": true, "-0.0": true, "0": true, "true": true, "false": true, "1": true, `"16"`: true,
		"9": false, `"8"`: false, "16": false, "2.4": false,
	} {
		g := parse(t, `{"1":{"class_type":"A","inputs":{"n":`+value+`}}}`)
		if got := g.Options().MetBy(host); got != listed {
			t.Errorf("%s is listed: %t", value, got)
		}
	}
}

func TestABooleanIsOneOrZero(t *testing.T) {
	t.Parallel()
	for value, number := range map[string]float64{"true": 1, "false": 0} {
		options := parse(t, `{"1":{"class_type":"A","inputs":{"n":`+value+`}}}`).Options()
		for listed := range 2 {
			host := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("A", "n", nil, float64(listed)) })
			if got, want := options.MetBy(host), number == float64(listed); got != want {
				t.Errorf("%s is met by %d: %t, want %t", value, listed, got, want)
			}
		}
	}
}

func TestAReplacedInputIsNoOption(t *testing.T) {
	t.Parallel()
	host := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("Sampler", "scheduler", nil) })
	options := parse(t, wishes).Options()
	one := options.Without("1", "scheduler").Without("2", "scheduler").Without("1", "other")
	if one.Len() != options.Len()-1 || one.MetBy(host) {
		t.Errorf("of %d options %d are left", options.Len(), one.Len())
	}
	if both := one.Without("3", "scheduler"); !both.MetBy(host) || options.MetBy(host) {
		t.Error("node 3 has it still, or the options changed")
	}
}

// numbered is a list of so many choices.
func numbered(n int, form string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(form, i)
	}
	return list
}

func TestTheLongestListIsLeftOutOfASetThatIsTooLarge(t *testing.T) {
	t.Parallel()
	const most = 12_499 // (100 000 − 4) / 8
	var b workflow.CapabilityBuilder
	b.AddClass("A")
	b.AddChoices("A", "long", numbered(12_005, "choice %d"))
	b.AddChoices("A", "short", numbered(489, "choice %d"))
	c := workflow.NewCapability(&b) // 1 class, 2 inputs and 2 lists, 12 494 choices
	if c.Len() != most {
		t.Errorf("%d values", c.Len())
	}
	b.AddChoices("A", "short", []string{"one more"})
	c = workflow.NewCapability(&b)
	if c.Len() != 1+2+1+490 {
		t.Errorf("%d values", c.Len())
	}
	g := parse(t, `{"1":{"class_type":"A","inputs":{"long":"none","short":"none"}}}`)
	if diff := cmp.Diff([]string{`missing option "none" in A.short`}, lacks(c, g.Options())); diff != "" {
		t.Error(diff)
	}
	// Files stay whatever they take: a hash needs them.
	b.AddChoices("A", "file", numbered(20_000, "%d.ckpt"))
	c = workflow.NewCapability(&b)
	if missing := parse(t, `{"1":{"class_type":"A","inputs":{"file":"20000.ckpt"}}}`).Requirements().Missing(c); len(missing) != 1 {
		t.Errorf("missing %v", missing)
	}
	if got := lacks(c, g.Options()); got != nil || c.Len() != 1+3+20_000 {
		t.Errorf("%v of %d values", got, c.Len())
	}
}

func TestFilesThatFitIntoNoMessageAreLeftOutByTheirLongestList(t *testing.T) {
	t.Parallel()
	c := capability(func(b *workflow.CapabilityBuilder) {
		b.AddClass("A")
		b.AddFiles("A", "long", numbered(119_000, "%d.ckpt"))
		b.AddFiles("A", "short", numbered(999, "%d.ckpt"))
	})
	missing := parse(t, `{"1":{"class_type":"A","inputs":{"long":"x.ckpt","short":"x.ckpt"}}}`).Requirements().Missing(c)
	if len(missing) != 1 || missing[0].Input != "short" {
		t.Errorf("missing %v", missing)
	}
	raw, err := c.MarshalBinary()
	if err != nil || len(raw) > 1<<20 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestACapabilityOfFilesAloneLacksNoOption(t *testing.T) {
	t.Parallel()
	// As an agent wrote it that kept classes, enumerated inputs and files.
	c := capability(func(b *workflow.CapabilityBuilder) {
		b.AddClass("Sampler")
		b.AddFiles("Sampler", "scheduler", nil)
	})
	if got := lacks(c, parse(t, wishes).Options()); got != nil {
		t.Error(got)
	}
}

func TestLongTextsAreNoChoices(t *testing.T) {
	t.Parallel()
	listed := capability(func(b *workflow.CapabilityBuilder) {
		b.AddChoices("A", "x", []string{strings.Repeat("a", 256), "two\nlines", "two\rlines", strings.Repeat("a", 255)}, math.NaN())
	})
	if listed.Len() != 3 { // the input, that it is enumerated, and one choice
		t.Errorf("%d values", listed.Len())
	}
	host := capability(func(b *workflow.CapabilityBuilder) { b.AddChoices("A", "x", nil) })
	for length, lacked := range map[int]int{0: 1, 255: 1, 256: 0, 5000: 0} {
		g := parse(t, `{"1":{"class_type":"A","inputs":{"x":"`+strings.Repeat("a", length)+`"}}}`)
		if got := host.Lacks(g.Options()); len(got) != lacked {
			t.Errorf("of a text of %d bytes it lacks %d", length, len(got))
		}
	}
}

func TestLacksAllocatesNothingWhereNothingIsMissing(t *testing.T) { //nolint:paralleltest // AllocsPerRun wants to run alone
	options := parse(t, wishes).Options()
	for _, host := range []workflow.Capability{{}, capability(func(b *workflow.CapabilityBuilder) {
		b.AddChoices("Sampler", "scheduler", []string{"beta57"})
	})} {
		if allocs := testing.AllocsPerRun(100, func() { _ = host.Lacks(options) }); allocs != 0 {
			t.Fatalf("%v allocations", allocs)
		}
	}
}
