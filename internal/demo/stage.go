package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"image/color"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// The workflows of the demo. Portraits fail on one host while it is damaged, and posters do not. A retouch loads a photo of its tenant.
const (
	portrait = "portrait"
	poster   = "poster"
	retouch  = "retouch"
)

// stage has the hosts of the demo, the workflows that they run, and the damage of one host.
type stage interface {
	hosts() []agent.HostConfig
	about() string // the hosts, in a few words
	failingHost() string
	// workflow is the portrait or poster of job number n, and the colour that its picture must have all over. A damaged one fails
	// where damage has made portraits fail.
	workflow(name string, n int, damaged bool) (json.RawMessage, color.RGBA)
	prepare(ctx context.Context) error // once the hosts are there
	// damage makes portraits fail on the failing host, and repair ends that. Both describe in a sentence what has happened.
	damage() string
	repair() string
	close()
}

func openStage(o *Options) (stage, error) {
	if len(o.Hosts) > 0 {
		return newRealStage(o)
	}
	s := &simulatedStage{intact: o.intact}
	for i := range 3 {
		sim, err := comfysim.Start(comfysim.Config{
			Name: fmt.Sprintf("gpu-%d", i+1), Logger: o.Log, JobTimeFor: simulatedTime, Nodes: []string{faceDetailer},
			Models: map[string][]string{"checkpoints": {portraitModel, posterModel}},
		})
		if err != nil {
			s.close()
			return nil, err
		}
		s.sims = append(s.sims, sim)
	}
	return s, nil
}

const (
	portraitModel = "realistic_v6.safetensors"
	posterModel   = "sdxl_base_1.0.safetensors"
	faceDetailer  = "FaceDetailer" // a custom node, which only the portraits use
)

// simulatedTime is how long a node takes, so that a person can follow the events and the demo ends in time.
func simulatedTime(class string, _ map[string]any) time.Duration {
	switch class {
	case "KSampler":
		return 500 * time.Millisecond
	case faceDetailer:
		return 200 * time.Millisecond
	}
	return 0
}

// simulatedStage has three simulated hosts. A Python package under a custom node is broken on the second.
type simulatedStage struct {
	sims   []*comfysim.Server
	intact bool
}

func (s *simulatedStage) hosts() []agent.HostConfig {
	hosts := make([]agent.HostConfig, len(s.sims))
	for i, sim := range s.sims {
		hosts[i] = agent.HostConfig{Name: fmt.Sprintf("gpu-%d", i+1), URL: sim.URL()}
	}
	return hosts
}

func (*simulatedStage) about() string                 { return "three simulated ComfyUI hosts" }
func (*simulatedStage) failingHost() string           { return "gpu-2" }
func (*simulatedStage) prepare(context.Context) error { return nil }

func (s *simulatedStage) damage() string {
	if !s.intact {
		s.sims[1].AddFault(comfysim.Fault{
			Kind: comfysim.FaultRaise, Class: faceDetailer,
			Exception: "ImportError", Message: "cannot import name 'solutions' from 'mediapipe'",
		})
	}
	return "On gpu-2 an update has just broken a Python package that the portraits' custom node needs."
}

func (s *simulatedStage) repair() string {
	s.sims[1].ClearFaults()
	return "Meanwhile that package was repaired on gpu-2. comfyherd is not told: it tries the host again when the block is over."
}

func (s *simulatedStage) close() {
	for _, sim := range s.sims {
		sim.Close()
	}
}

// workflow is text to image. Every job has a seed and a prompt of its own, and so a picture of its own, while the
// hash is the same for all portraits and for all posters.
func (*simulatedStage) workflow(name string, n int, _ bool) (json.RawMessage, color.RGBA) {
	seed, text := 1000+n, fmt.Sprintf("%s of a shepherd, number %d", name, n)
	model, saved := posterModel, "8"
	nodes := map[string]any{
		"5": graphNode("EmptyLatentImage", "width", 512, "height", 512, "batch_size", 1),
		"6": graphNode("CLIPTextEncode", "clip", []any{"4", 1}, "text", text),
		"7": graphNode("CLIPTextEncode", "clip", []any{"4", 1}, "text", "blurry"),
		"3": graphNode("KSampler", "model", []any{"4", 0}, "positive", []any{"6", 0}, "negative", []any{"7", 0},
			"latent_image", []any{"5", 0}, "seed", seed, "steps", 20, "cfg", 7, "sampler_name", "euler",
			"scheduler", "normal", "denoise", 1),
		"8": graphNode("VAEDecode", "samples", []any{"3", 0}, "vae", []any{"4", 2}),
	}
	if name == portrait {
		model, saved = portraitModel, "10"
		nodes["10"] = graphNode(faceDetailer, "image", []any{"8", 0})
	}
	nodes["4"] = graphNode("CheckpointLoaderSimple", "ckpt_name", model)
	nodes["9"] = graphNode("SaveImage", "images", []any{saved, 0}, "filename_prefix", name)
	return graphOf(nodes), comfysim.Picture(uint64(seed), text)
}

func graphNode(class string, inputs ...any) map[string]any {
	in := map[string]any{}
	for i := 0; i+1 < len(inputs); i += 2 {
		in[fmt.Sprint(inputs[i])] = inputs[i+1]
	}
	return map[string]any{"class_type": class, "inputs": in}
}

func graphOf(nodes map[string]any) json.RawMessage {
	body, err := json.Marshal(nodes)
	if err != nil {
		return nil // cannot be: strings, numbers and lists only
	}
	return body
}
