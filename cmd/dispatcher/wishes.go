package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// wishes are what a submitter can say about a job besides its workflow. They win over what the file says.
type wishes struct {
	Set         []string      `sep:"none" placeholder:"NODE.inputs.NAME=VALUE" help:"Change an input that the workflow has, repeatable. The value is JSON if it reads as such, else text."`
	Input       []string      `sep:"none" placeholder:"NODE.NAME=PATH" help:"Send a file along and name it in this input, repeatable."`
	MaxAttempts int           `placeholder:"N" unset:"3" range:"1.." help:"Attempts that count before the job is dead."`
	Prefer      []string      `placeholder:"HOST" help:"Host or label (gpu=4090) to prefer, repeatable."`
	Only        []string      `placeholder:"HOST" help:"Host or label to run on and nowhere else, repeatable."`
	Exclude     []string      `placeholder:"HOST" help:"Host or label never to run on, repeatable."`
	At          moment        `placeholder:"TIME" help:"Start no earlier than this, as 2026-12-01T08:00:00Z."`
	In          time.Duration `placeholder:"DURATION" range:"0s.." help:"Start no earlier than in this time."`
	ExpiresIn   time.Duration `placeholder:"DURATION" unset:"never" range:"0s.." help:"Give the job up when no host has taken it within this time."`
	Metadata    string        `placeholder:"JSON" help:"Any JSON, which every event of the job repeats."`
}

// spec reads one of the three bodies, changes it as wished, and judges it as a dispatcher would.
func (w *wishes) spec(body []byte, tenant job.Tenant) (jetstream.Spec, error) {
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

// unread refuses fields that no dispatcher would read: most are misspelt. Whoever publishes to NATS directly gets no such
// answer, and newer programs may send more.
func unread(body []byte) error {
	fields := job.UnknownFields(body)
	if len(fields) == 0 {
		return nil
	}
	text := strings.NewReplacer("(the priority is the last part of the subject)", "(use --priority)", "(the tenant is a part of the subject)", "(use --tenant)").
		Replace(strings.Join(fields, ", "))
	return fmt.Errorf("nobody reads %s; correct it or leave it out", text)
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

func (w *wishes) apply(spec *jetstream.Spec, now time.Time) error {
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
	if w.Metadata != "" {
		if !json.Valid([]byte(w.Metadata)) {
			return fmt.Errorf("--metadata %s is no JSON; write it like '{\"order\":17}'", daemon.Short(w.Metadata, 80))
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
func (w *wishes) Validate() error {
	if !w.At.IsZero() && w.In != 0 {
		return errors.New("--at and --in both say when the job may start; give one of them")
	}
	return nil
}

// checkInputs finds a wrong --input before anything is stored.
func (w *wishes) checkInputs(graph *workflow.Graph) error {
	for _, text := range w.Input {
		node, _, path, ok := splitChange(text)
		if !ok || path == "" {
			return fmt.Errorf("--input %s: write it like --input 10.image=cat.png", text)
		}
		if graph.ClassOf(node) == "" {
			return fmt.Errorf("--input %s: the workflow has no node %s; look at the ids in the exported file", text, node)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return fmt.Errorf("--input %s: there is no file %s; give the path of a picture", text, path)
		}
	}
	return nil
}

// store puts the files of --input into COMFY_INPUTS, once for all jobs of this command.
func (w *wishes) store(ctx context.Context, a *asker, client *jetstream.Client) ([]job.Input, error) {
	folder := string(client.Tenant()) + "/" + uuid.NewString()
	inputs := make([]job.Input, 0, len(w.Input))
	for i, text := range w.Input {
		node, name, path, _ := splitChange(text)
		file := filepath.Base(path)
		object := fmt.Sprintf("%s/%d/%s", folder, i, file)
		if err := storeFile(ctx, a, client, object, path); err != nil {
			return nil, fmt.Errorf("--input %s: %w", text, err)
		}
		inputs = append(inputs, job.Input{Node: node, Input: strings.TrimPrefix(name, "inputs."), Object: object, Filename: file})
	}
	return inputs, nil
}

// storeFile hands a file to a dispatcher; where none runs, and who asks may do so, it goes into the store itself.
func storeFile(ctx context.Context, a *asker, client *jetstream.Client, object, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	kind := mime.TypeByExtension(filepath.Ext(path))
	_, err = client.PutFile(ctx, object, kind, file)
	if err == nil {
		return nil
	}
	q, err := a.instead(ctx, err)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = q.StoreInput(ctx, object, kind, file)
	return err
}
