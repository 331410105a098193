package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// doctorCmd checks a fleet from one end to the other.
type doctorCmd struct {
	client
	Host     []string      `placeholder:"NAME" unset:"every host that is online" help:"Host that jobs are sent to, repeatable."`
	Tenant   []string      `placeholder:"NAME" unset:"doctor-1, doctor-2 and doctor-3" help:"Tenant whose jobs are sent, repeatable."`
	Workflow string        `type:"path" placeholder:"FILE" unset:"EmptyImage to PreviewImage, 64 × 64, which needs no model" help:"Workflow of the jobs, in ComfyUI's API format."`
	Jobs     int           `default:"60" range:"0.." placeholder:"N" help:"Jobs that are sent at most; 0 sends none and only looks."`
	Priority int           `default:"0" range:"0..9" placeholder:"N" help:"Priority of the jobs; with 0 they come after all others."`
	Timeout  time.Duration `default:"1m" range:"1s.." placeholder:"DURATION" help:"How long the jobs may take; those that no host has accepted by then expire."`
	JSON     bool          `help:"Print one JSON object: ok, checks, jobs."`
}

// Help is shown after the flags.
func (*doctorCmd) Help() string {
	return `Looks at NATS, its streams and stores, the dispatchers, clocks and versions, each host's agent and ComfyUI, and sends one tiny
job of each tenant to each host, and one of each tenant that any host may run: 12 jobs on three hosts. They have the lowest
priority and expire, and what has not ended in time is cancelled, so a busy fleet is not disturbed.

Exit code 0 when nothing is wrong, also when there are warnings, and 1 otherwise.

Examples:
  dispatcher doctor
  dispatcher doctor --jobs 0
  dispatcher doctor --host gpu-1 --tenant acme --workflow workflow_api.json --timeout 5m
  dispatcher doctor --json | jq -r '.checks[] | select(.state != "ok") | .text'`
}

// checkState is how a check came out.
type checkState string

const (
	checkOK   checkState = "ok"
	checkWarn checkState = "warning"
	checkBad  checkState = "wrong"
)

// check is the result of looking at one thing.
type check struct {
	State checkState `json:"state"`
	What  string     `json:"what"` // NATS, storage, dispatchers, host gpu-1 and so on
	Text  string     `json:"text"`
	Do    string     `json:"do,omitempty"` // what to do about it
}

// examination collects what was found.
type examination struct {
	OK     bool      `json:"ok"`
	Checks []check   `json:"checks"`
	Jobs   []trial   `json:"jobs"`
	Time   time.Time `json:"time"`

	c     *daemon.Console
	quiet bool // JSON is printed at the end, and nothing before it
}

func (x *examination) ok(what, text string, args ...any) {
	x.add(check{checkOK, what, fmt.Sprintf(text, args...), ""})
}

func (x *examination) add(found check) {
	x.Checks = append(x.Checks, found)
	if x.quiet {
		return
	}
	symbol, colour := "✓", daemon.Green
	switch found.State {
	case checkWarn:
		symbol, colour = "!", daemon.Yellow
	case checkBad:
		symbol, colour = "✗", daemon.Red
	case checkOK:
	}
	colours := daemon.Colourful(x.c.Out)
	_ = x.c.PrintPainted(daemon.Paint(colours, colour, symbol), daemon.Plain(fmt.Sprintf(" %-12s %s", found.What, found.Text))) // a reader may have gone
	if found.Do != "" {
		x.c.Print("  %-12s → %s", "", found.Do)
	}
}

// count is how many checks came out so.
func (x *examination) count(state checkState) int {
	n := 0
	for i := range x.Checks {
		if x.Checks[i].State == state {
			n++
		}
	}
	return n
}

// Run looks, sends the jobs, and prints what was found.
func (d *doctorCmd) Run(ctx context.Context, c *daemon.Console) error {
	graphs, err := d.graphs()
	if err != nil {
		return err
	}
	if own := d.OwnTenant(); own != "" {
		return fmt.Errorf("this needs the credentials of an operator (`dispatcher access operator`): those of tenant %s are for its own jobs", own)
	}
	stop, _, release := daemon.Signals(ctx)
	defer release()
	x := &examination{c: c, quiet: d.JSON, Checks: []check{}, Jobs: []trial{}}
	if err := d.examine(stop, x, graphs); err != nil {
		return interrupted(stop, c, err)
	}
	wrong, warnings := x.count(checkBad), x.count(checkWarn)
	x.OK = wrong == 0
	if d.JSON {
		if err := c.JSON(x); err != nil {
			return err
		}
	} else {
		c.Print("")
		switch {
		case wrong > 0:
			c.Print("%s wrong, %s.", daemon.Plural(wrong, "thing"), daemon.Plural(warnings, "warning"))
		case warnings > 0:
			c.Print("Nothing is wrong; %s.", daemon.Plural(warnings, "warning"))
		default:
			c.Print("Nothing is wrong.")
		}
	}
	if wrong > 0 {
		return daemon.ExitFailed
	}
	return nil
}

// examine looks at everything in the order in which one thing needs the other, and ends early where nothing further can be seen.
func (d *doctorCmd) examine(ctx context.Context, x *examination, graphs func() json.RawMessage) error {
	a, err := d.connect(ctx, x.c)
	if err != nil {
		x.add(check{checkBad, "NATS", daemon.FirstLine(err.Error()), "Start NATS or `dispatcher run`, and check NATS_URL and NATS_CREDS."})
		return nil
	}
	defer a.close()
	if err := x.server(ctx, a.nc); err != nil {
		return err
	}
	q, err := a.queue(ctx)
	if err != nil {
		x.add(check{checkBad, "streams", daemon.FirstLine(err.Error()), "Start `dispatcher run`, which creates the streams that are missing."})
		return nil
	}
	hosts, there, err := x.fleet(ctx, q)
	if err != nil || !there || d.Jobs == 0 {
		return err
	}
	trials := d.plan(x, hosts)
	if len(trials) == 0 {
		return nil
	}
	d.send(ctx, a.nc, trials, graphs)
	x.judge(trials)
	return ctx.Err()
}

// tiny needs no model and no custom node. Each job has a colour of its own: ComfyUI would answer a repeated one from its cache, and
// run nothing.
const tiny = `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},` +
	`"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`

// graphs gives the workflow of each job.
func (d *doctorCmd) graphs() (func() json.RawMessage, error) {
	if d.Workflow == "" {
		return func() json.RawMessage {
			return fmt.Appendf(nil, tiny, rand.IntN(1<<24)) //nolint:gosec // a colour
		}, nil
	}
	body, err := os.ReadFile(d.Workflow)
	if err != nil {
		return nil, fmt.Errorf("--workflow: %w", err)
	}
	if _, err := workflow.HashOf(body); err != nil {
		return nil, fmt.Errorf("--workflow %s: %w", d.Workflow, err)
	}
	return func() json.RawMessage { return body }, nil
}

// Validate refuses names that cannot be.
func (d *doctorCmd) Validate() error {
	var all []error
	for _, name := range d.Host {
		var host hostName
		all = append(all, host.UnmarshalText([]byte(name)))
	}
	for _, name := range d.Tenant {
		if _, err := d.named(strings.TrimSpace(name)); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
