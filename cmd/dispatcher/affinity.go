package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// affinityCmd is about rules that tie a workflow to hosts.
type affinityCmd struct {
	List affinityListCmd `cmd:"" default:"withargs" help:"List the rules; dispatcher affinity does the same."`
	Set  affinitySetCmd  `cmd:"" help:"Write the rule of a workflow."`
	Rm   affinityRmCmd   `cmd:"" help:"Remove the rule of a workflow."`
}

type affinityListCmd struct {
	client
	JSON bool `help:"Print a JSON object, hash to rule."`
}

// Run lists.
func (a *affinityListCmd) Run(ctx context.Context, c *daemon.Console) error {
	answer, err := a.affinity(ctx, c, queue.AffinityRequest{})
	if err != nil {
		return err
	}
	if a.JSON {
		return c.JSON(answer.Affinity)
	}
	return tellAffinity(c, answer)
}

// affinity changes the rules as the request says, and gives those that answer it.
func (f *client) affinity(ctx context.Context, c *daemon.Console, request queue.AffinityRequest) (queue.AffinityAnswer, error) {
	all := queue.AffinityAnswer{Affinity: map[workflow.Hash]queue.Affinity{}}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return all, err
	}
	defer done()
	request.By = by()
	return all, eachPage(asking[queue.AffinityAnswer](ctx, q, "affinity", &request), func(page *queue.AffinityAnswer) bool {
		maps.Copy(all.Affinity, page.Affinity)
		return following(&request.After, page.Next)
	})
}

func tellAffinity(c *daemon.Console, answer queue.AffinityAnswer) error {
	if len(answer.Affinity) == 0 {
		c.Say("no workflow is tied to hosts")
		return nil
	}
	rows := [][]string{{"WORKFLOW", "PREFER", "EXCLUDE"}}
	for _, hash := range slices.Sorted(maps.Keys(answer.Affinity)) {
		rule := answer.Affinity[hash]
		rows = append(rows, []string{string(hash), strings.Join(rule.Prefer, " "), strings.Join(rule.Exclude, " ")})
	}
	return c.Table(rows)
}

// workflowArg is a workflow, given by its whole hash or as a file.
type workflowArg struct {
	Workflow string `arg:"" name:"hash|file" help:"Hash of the workflow (64 hex digits), or a file with the workflow."`
}

func (w *workflowArg) hash(c *daemon.Console) (workflow.Hash, error) {
	if hash := workflow.Hash(w.Workflow); hash.Valid() {
		return hash, nil
	}
	body, err := readFile(c, w.Workflow)
	if err != nil {
		return "", fmt.Errorf("%s is neither a hash nor a file; `dispatcher status JOB --json` shows the hash of a job", daemon.Short(w.Workflow, 80))
	}
	spec, err := job.ParseSpec(body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", w.Workflow, err)
	}
	graph, err := workflow.Parse(spec.Workflow)
	if err != nil {
		return "", fmt.Errorf("%s: %w", w.Workflow, err)
	}
	return graph.Hash(), nil
}

type affinitySetCmd struct {
	client
	workflowArg
	Prefer  []string `placeholder:"HOST" help:"Host or label (gpu=4090) to prefer, repeatable."`
	Exclude []string `placeholder:"HOST" help:"Host or label never to run on, repeatable."`
}

// Help is shown after the flags.
func (*affinitySetCmd) Help() string {
	return `Examples:
  dispatcher affinity set video_api.json --prefer gpu=4090 --exclude gpu-3
  dispatcher affinity list
  dispatcher affinity rm video_api.json`
}

// Run writes.
func (a *affinitySetCmd) Run(ctx context.Context, c *daemon.Console) error {
	if len(a.Prefer)+len(a.Exclude) == 0 {
		return errors.New("give --prefer or --exclude, or use `dispatcher affinity rm` to remove the rule")
	}
	hash, err := a.hash(c)
	if err != nil {
		return err
	}
	answer, err := a.affinity(ctx, c, queue.AffinityRequest{Hash: hash, Prefer: a.Prefer, Exclude: a.Exclude})
	if err != nil {
		return err
	}
	return tellAffinity(c, answer)
}

type affinityRmCmd struct {
	client
	workflowArg
}

// Run removes.
func (a *affinityRmCmd) Run(ctx context.Context, c *daemon.Console) error {
	hash, err := a.hash(c)
	if err != nil {
		return err
	}
	if _, err := a.affinity(ctx, c, queue.AffinityRequest{Hash: hash, Remove: true}); err != nil {
		return err
	}
	c.Print("%s is tied to no host", hash)
	return nil
}
