package comfysim

import (
	"encoding/json"
	"log/slog"
	"strings"
	"time"
)

// Config describes one simulated host. The zero value is a working ComfyUI 0.33.0 without models, whose jobs take no time.
type Config struct {
	Name string // for logs and the device name in /system_stats
	// Nodes are the names of further classes of this host: any inputs, any outputs, passing the first linked picture through.
	Nodes []string
	// Missing are class names this host does not have.
	Missing []string
	// Classes are further classes by name, each an entry of the form /object_info gives; they run like Nodes.
	Classes map[string]json.RawMessage
	// Models are the files by folder: checkpoints, loras, vae, diffusion_models (or unet), text_encoders (or clip),
	// controlnet, upscale_models. They are the choices of the loader nodes.
	Models map[string][]string
	Packs  Packs
	VRAM   int64 // bytes; 0 means 24 GiB
	// JobTime is how long a KSampler (spread over its steps) or an extra node (in one piece, without ticks) takes.
	JobTime time.Duration
	// JobTimeFor, when set, decides the time of every node instead of JobTime. Numbers in inputs are json.Number.
	// It is called on the worker's goroutine.
	JobTimeFor func(class string, inputs map[string]any) time.Duration
	LoadTime   time.Duration // loading a main model other than the last one used
	// Version is what /system_stats answers; "" means 0.33.0. Versions below 0.4 have no /api/jobs, the old shape of a
	// missing node type and accept any prompt_id.
	Version   string
	KeepCache bool // outputs stay cached when other prompts run (as with --cache-lru); otherwise only the last prompt's
	Lenient   bool // any class, link, value and missing input is taken, for suites that were written for other hosts
	Previews  bool // KSampler sends preview images
	Faults    []Fault
	Seed      uint64       // for faults with a probability
	Logger    *slog.Logger // nil is silent
	// OnDeath, when set, is called after a death by fault or by /sim/die that has no restart, so that a real process
	// can exit. It is called on a goroutine of its own.
	OnDeath func()
}

const (
	defaultVersion = "0.33.0"
	defaultVRAM    = 24 << 30
	maxBody        = 104857600 // --max-upload-size
	maxHistory     = 10000
)

func (c Config) withDefaults() Config {
	if c.Version == "" {
		c.Version = defaultVersion
	}
	if c.VRAM == 0 {
		c.VRAM = defaultVRAM
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		c.Name = "comfysim"
	}
	return c
}

// old says whether the host is of the 0.3 line, before the jobs API.
func (c Config) old() bool {
	return strings.HasPrefix(c.Version, "0.3.") || strings.HasPrefix(c.Version, "0.2.")
}

// models returns the files of a folder under any of its names.
func (c Config) models(folder string) []string {
	names := []string{folder}
	switch folder {
	case "diffusion_models":
		names = append(names, "unet")
	case "text_encoders":
		names = append(names, "clip")
	}
	files := []string{}
	for _, name := range names {
		files = append(files, c.Models[name]...)
	}
	return files
}

func (c Config) nodeTime(class string, inputs map[string]any) time.Duration {
	if c.JobTimeFor != nil {
		return c.JobTimeFor(class, inputs)
	}
	return c.JobTime
}
