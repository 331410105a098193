package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// jobFlags are what a submitter can say about a job besides its workflow. They win over what the file says.
type jobFlags struct {
	Set         []string      `sep:"none" placeholder:"NODE.inputs.NAME=VALUE" help:"Change an input that the workflow has, repeatable. The value is JSON if it reads as such, else text."`
	Input       []string      `sep:"none" placeholder:"NODE.NAME=PATH" help:"Store a file and put its name into this input, repeatable."`
	Label       string        `name:"name" placeholder:"TEXT" help:"What people call the job: up to 120 characters, shown in lists and repeated in every event."`
	MaxAttempts int           `placeholder:"N" unset:"3" range:"1.." help:"Attempts that count before the job is dead."`
	Prefer      []string      `placeholder:"HOST" help:"Host or label (gpu=4090) to prefer, repeatable."`
	Only        []string      `placeholder:"HOST" help:"Host or label to run on and nowhere else, repeatable."`
	Exclude     []string      `placeholder:"HOST" help:"Host or label never to run on, repeatable."`
	At          moment        `placeholder:"TIME" help:"Start no earlier than this, as 2026-12-01T08:00:00Z."`
	In          time.Duration `placeholder:"DURATION" range:"0s.." help:"Start no earlier than in this time."`
	ExpiresIn   time.Duration `placeholder:"DURATION" unset:"never" range:"0s.." help:"End the job as dead when no host has started it within this time."`
	Webhook     string        `placeholder:"NAME" help:"A webhook of the tenant that receives the events of the job; see dispatcher webhooks."`
	Record      bool          `help:"Store what ComfyUI's history says of the run among the job's files."`
	Frames      bool          `help:"Relay what ComfyUI sends about the run over its websocket, byte for byte, to comfy.live."`
	Metadata    string        `placeholder:"JSON" help:"Any JSON, which every event of the job repeats."`
}

// spec reads one of the three bodies, changes it as the flags say, and checks it as a dispatcher would.
func (w *jobFlags) spec(body []byte, tenant job.Tenant) (jetstream.Spec, error) {
	spec, err := job.ParseSpec(body)
	if err != nil {
		return spec, err
	}
	if err := unread(body); err != nil {
		return spec, err
	}
	graph, err := workflow.Parse(spec.Workflow)
	if err != nil {
		return spec, err
	}
	for _, change := range w.Set {
		if graph, err = set(graph, change); err != nil {
			return spec, err
		}
	}
	spec.Workflow = graph.Raw()
	if err := w.apply(&spec, time.Now()); err != nil {
		return spec, err
	}
	if err := w.checkInputs(graph); err != nil {
		return spec, err
	}
	whole, err := json.Marshal(spec)
	if err != nil {
		return spec, fmt.Errorf("encode the job: %w", err)
	}
	_, err = job.Parse(job.Message{Tenant: string(tenant), Priority: job.Usual, Body: whole})
	return spec, err
}

// unread refuses unknown fields, most of which are misspelt. Only the command does so: dispatchers ignore them, since newer
// programs may send more.
func unread(body []byte) error {
	fields := job.UnknownFields(body)
	if len(fields) == 0 {
		return nil
	}
	text := strings.NewReplacer("(the priority is the last part of the subject)", "(use --priority)", "(the tenant is a part of the subject)", "(use --tenant)").
		Replace(strings.Join(fields, ", "))
	return fmt.Errorf("the job has unknown fields: %s; correct them or leave them out", text)
}

// set changes one input, as in 6.inputs.text=a cat, or shorter 6.text=a cat.
func set(graph *workflow.Graph, change string) (*workflow.Graph, error) {
	node, name, value, ok := splitChange(change)
	if !ok {
		return nil, fmt.Errorf("--set %s: write it like --set '6.inputs.text=a cat'", change)
	}
	name = strings.TrimPrefix(name, "inputs.")
	if known := graph.Inputs(node); graph.ClassOf(node) != "" && !slices.Contains(known, name) { // ComfyUI would ignore it
		return nil, fmt.Errorf("--set %s: node %s (%s) has no input %s; it has %s", change, node, graph.ClassOf(node), name, strings.Join(known, ", "))
	}
	raw := json.RawMessage(value)
	if !json.Valid(raw) {
		raw, _ = json.Marshal(value) // a string always can be
	}
	changed, err := graph.SetInput(node, name, raw)
	if err != nil {
		return nil, fmt.Errorf("--set %s: %w", change, err)
	}
	return changed, nil
}

// splitChange takes <node>.<name>=<value> apart.
func splitChange(text string) (node, name, value string, ok bool) {
	where, value, found := strings.Cut(text, "=")
	node, name, dotted := strings.Cut(where, ".")
	return node, name, value, found && dotted && node != "" && name != ""
}

func (w *jobFlags) apply(spec *jetstream.Spec, now time.Time) error {
	if w.Label != "" {
		spec.Name = w.Label
	}
	if w.MaxAttempts != 0 {
		spec.MaxAttempts = w.MaxAttempts
	}
	for _, list := range []struct {
		from []string
		to   *[]string
	}{{w.Prefer, &spec.PreferHosts}, {w.Only, &spec.OnlyHosts}, {w.Exclude, &spec.ExcludeHosts}} {
		if len(list.from) > 0 {
			*list.to = list.from
		}
	}
	spec.Webhook, spec.Record = cmp.Or(w.Webhook, spec.Webhook), w.Record || spec.Record
	if w.Frames {
		spec.Live = job.LiveFrames
	}
	if w.Metadata != "" {
		if !json.Valid([]byte(w.Metadata)) {
			return fmt.Errorf("--metadata %s is not JSON; write it like '{\"order\":17}'", daemon.Short(w.Metadata, 80))
		}
		spec.Metadata = json.RawMessage(w.Metadata)
	}
	if w.ExpiresIn > 0 {
		spec.ExpiresIn = job.Duration(w.ExpiresIn)
	}
	switch {
	case w.In != 0:
		at := now.Add(w.In).UTC()
		spec.RunAt = &at
	case !w.At.IsZero():
		spec.RunAt = &w.At.Time
	}
	return nil
}

// Validate refuses two times of a start.
func (w *jobFlags) Validate() error {
	if !w.At.IsZero() && w.In != 0 {
		return errors.New("--at and --in both say when the job may start; give one of them")
	}
	return nil
}
