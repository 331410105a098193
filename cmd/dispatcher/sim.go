package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// simCmd is a simulated ComfyUI as a process.
type simCmd struct {
	daemon.LogFlags `embed:"" group:"log"`

	Listen   string        `default:"127.0.0.1:8188" placeholder:"ADDR" help:"Where it listens; port 0 is any free one."`
	Name     string        `default:"sim" placeholder:"NAME" help:"Name of its device."`
	JobTime  time.Duration `placeholder:"DURATION" default:"0s" range:"0s.." help:"How long a sampler takes."`
	LoadTime time.Duration `placeholder:"DURATION" default:"0s" range:"0s.." help:"How long it takes to load another model."`
	Model    []string      `placeholder:"FOLDER/FILE" default:"checkpoints/v1-5-pruned-emaonly.safetensors" help:"Model file it has, repeatable."`
	Missing  []string      `placeholder:"CLASS" help:"Node class it does not have, repeatable."`
	Node     []string      `placeholder:"CLASS" help:"Further node class it has, repeatable."`
	VRAM     int64         `name:"vram" placeholder:"GIB" default:"24" range:"1.." help:"Memory of its device in GiB."`
	Previews bool          `help:"Send preview images while it samples."`
	Lenient  bool          `help:"Take any class, link and value, and missing inputs: for suites of other programs."`
	Faults   string        `placeholder:"JSON" help:"Faults at the start, a JSON list as in POST /sim/faults."`
	Mortal   bool          `help:"End the process when a fault kills the simulated ComfyUI."`
}

// Help is shown after the flags.
func (*simCmd) Help() string {
	return `It speaks ComfyUI's HTTP and websocket protocol and draws plain pictures whose colour follows from the graph.
It needs no GPU and no models. Faults can be scripted while it runs: POST /sim/faults, /sim/die, /sim/freeze.

Examples:
  dispatcher sim
  dispatcher sim --listen 127.0.0.1:8189 --name sim-2 --job-time 2s
  dispatcher sim --faults '[{"kind":"raise","message":"boom","times":1}]'`
}

// Run serves until it is stopped.
func (s *simCmd) Run(ctx context.Context, c *daemon.Console) error {
	log, err := s.Logger(c.Err)
	if err != nil {
		return err
	}
	stop, _, release := daemon.Signals(ctx)
	defer release()
	died := make(chan struct{})
	cfg := comfysim.Config{
		Name: s.Name, Nodes: s.Node, Missing: s.Missing, VRAM: s.VRAM << 30, JobTime: s.JobTime, LoadTime: s.LoadTime,
		Previews: s.Previews, Lenient: s.Lenient, Logger: log,
	}
	if s.Mortal {
		cfg.OnDeath = func() { close(died) }
	}
	if cfg.Models, err = models(s.Model); err != nil {
		return err
	}
	if s.Faults != "" {
		if err := json.Unmarshal([]byte(s.Faults), &cfg.Faults); err != nil {
			return fmt.Errorf("--faults: %w; write it like [{\"kind\":\"raise\",\"times\":1}]", err)
		}
	}
	server, err := comfysim.StartAt(s.Listen, cfg)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	defer server.Close()
	c.Print("%s", server.URL())
	select {
	case <-stop.Done():
		return nil
	case <-died:
		return daemon.ExitFailed
	}
}

func models(files []string) (map[string][]string, error) {
	byFolder := map[string][]string{}
	for _, path := range files {
		folder, file, found := strings.Cut(path, "/")
		if !found || folder == "" || file == "" {
			return nil, fmt.Errorf("--model %q has no folder; write it like checkpoints/sd15.safetensors", path)
		}
		byFolder[folder] = append(byFolder[folder], file)
	}
	return byFolder, nil
}
