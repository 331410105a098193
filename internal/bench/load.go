package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// load makes the jobs: text-to-image workflows of one shape for each hash, padded to the payload by their prompt.
type load struct {
	cfg    *Config
	bodies [][2]string // by hash: what comes before and after the seed
	run    string      // different in each run, since the ids of an earlier run are still taken in a NATS that was named
	prefix string      // of the ids of the jobs
	jobs   int
	later  float64 // share of the jobs that have a run_at
}

func newLoad(cfg *Config) (*load, error) {
	run := fmt.Sprintf("%06x", rand.Uint32N(1<<24))
	l := &load{cfg: cfg, run: run, prefix: "b-" + run + "-", jobs: cfg.Jobs, later: cfg.Scheduled}
	for i := range cfg.Hashes {
		const seed = 424242424242
		body, err := json.Marshal(picture(i, seed, ""))
		if err != nil {
			return nil, fmt.Errorf("make a workflow: %w", err)
		}
		if missing := cfg.Payload - len(body); missing > 0 {
			body, err = json.Marshal(picture(i, seed, strings.Repeat("a fox in snow, ", missing/15+1)[:missing]))
			if err != nil {
				return nil, fmt.Errorf("make a workflow: %w", err)
			}
		}
		before, after, _ := strings.Cut(string(body), strconv.Itoa(seed))
		l.bodies = append(l.bodies, [2]string{before, after})
	}
	return l, nil
}

// body is the i-th job; no two have the same seed.
func (l *load) body(i int) []byte {
	b := l.bodies[i%len(l.bodies)]
	return []byte(b[0] + strconv.Itoa(100000000000+i) + b[1])
}

// scheduledBy is how long after its publish a scheduled job may run.
const scheduledBy = time.Second

// scheduled reports whether the i-th job has a run_at: they are spread evenly among the others.
func (l *load) scheduled(i int) bool {
	return int(float64(i+1)*l.later) > int(float64(i)*l.later)
}

// published is the i-th job as it is published now.
func (l *load) published(i int) []byte {
	if !l.scheduled(i) {
		return l.body(i)
	}
	return fmt.Appendf(nil, `{"run_at":%q,"workflow":%s}`, time.Now().Add(scheduledBy).UTC().Format(time.RFC3339Nano), l.body(i))
}

// message publishes the i-th job below a prefix of subjects.
func (l *load) message(prefix string, i int) *nats.Msg {
	return &nats.Msg{Subject: prefix + l.tenant(i) + ".5", Data: l.published(i), Header: nats.Header{"Comfy-Job-Id": {l.id(i)}}}
}

func (l *load) id(i int) string { return l.prefix + strconv.Itoa(i) }

func (l *load) tenant(i int) string { return tenantName(i % l.cfg.Tenants) }

func tenantName(i int) string { return "tenant-" + strconv.Itoa(i) }

// capability has every class and model of the load.
func (l *load) capability() (workflow.Capability, error) {
	var b workflow.CapabilityBuilder
	for i := range l.bodies {
		g, err := workflow.Parse(l.body(i))
		if err != nil {
			return workflow.Capability{}, fmt.Errorf("parse a workflow of the load: %w", err)
		}
		needs := g.Requirements()
		for _, class := range needs.Classes {
			b.AddClass(class)
		}
		for _, m := range needs.Models {
			b.AddChoices(m.Class, m.Input, []string{m.File})
		}
	}
	return workflow.NewCapability(&b), nil
}

func model(i int) string { return fmt.Sprintf("model-%03d.safetensors", i) }

func picture(hash int, seed int64, prompt string) map[string]any {
	node := func(class string, inputs map[string]any) map[string]any {
		return map[string]any{"class_type": class, "inputs": inputs}
	}
	return map[string]any{
		"4": node("CheckpointLoaderSimple", map[string]any{"ckpt_name": model(hash)}),
		"5": node("EmptyLatentImage", map[string]any{"width": 64, "height": 64, "batch_size": 1}),
		"6": node("CLIPTextEncode", map[string]any{"clip": []any{"4", 1}, "text": prompt}),
		"7": node("CLIPTextEncode", map[string]any{"clip": []any{"4", 1}, "text": "blurry"}),
		"3": node("KSampler", map[string]any{
			"model": []any{"4", 0}, "positive": []any{"6", 0}, "negative": []any{"7", 0}, "latent_image": []any{"5", 0},
			"seed": seed, "steps": 4, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
		}),
		"8": node("VAEDecode", map[string]any{"samples": []any{"3", 0}, "vae": []any{"4", 2}}),
		"9": node("SaveImage", map[string]any{"images": []any{"8", 0}, "filename_prefix": "out"}),
	}
}
