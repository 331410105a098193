package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// hostsCmd is about the machines.
type hostsCmd struct {
	List   hostsListCmd   `cmd:"" default:"withargs" help:"List the hosts that are there (what hosts does alone)."`
	Drain  hostsDrainCmd  `cmd:"" help:"Let hosts finish what they run and take nothing new."`
	Resume hostsResumeCmd `cmd:"" help:"Let drained hosts take jobs again."`
}

type hostsListCmd struct {
	client
	JSON bool `help:"Print a JSON array."`
}

// Help is shown after the flags.
func (*hostsListCmd) Help() string {
	return `Examples:
  dispatcher hosts
  dispatcher hosts --json | jq -r '.[] | select(.state != "online") | .host'`
}

// Run lists.
func (h *hostsListCmd) Run(ctx context.Context, c *console) error {
	q, done, err := h.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	hosts, err := listHosts(ctx, c, q)
	if err != nil {
		return err
	}
	if h.JSON {
		return c.json(hosts)
	}
	if len(hosts) == 0 {
		c.say("no host is there; start one with `COMFY_HOSTS=http://127.0.0.1:8188 agent`")
		return nil
	}
	now := time.Now()
	rows := [][]string{{"HOST", "STATE", "SLOTS", "RUNNING", "WARM", "CAN", "BLOCKS", "STRIKES", "LABELS", "DEVICE", "COMFYUI", "SEEN"}}
	for i := range hosts {
		rows = append(rows, hostRow(&hosts[i], now))
	}
	return c.table(rows)
}

// listHosts asks the dispatchers, who know blocks and strikes too, and without them reads who is there.
func listHosts(ctx context.Context, c *console, q *jetstream.Queue) ([]dispatcher.HostInfo, error) {
	var answer dispatcher.HostsAnswer
	err := q.Call(ctx, "hosts", struct{}{}, &answer)
	if errors.Is(err, nats.ErrNoResponders) {
		c.say("no dispatcher is running, so blocks and strikes are not known; start one with `dispatcher run`")
		var states []jetstream.HostState
		states, err = q.Hosts(ctx)
		for i := range states {
			answer.Hosts = append(answer.Hosts, dispatcher.HostInfo{HostState: states[i]})
		}
	}
	slices.SortFunc(answer.Hosts, func(a, b dispatcher.HostInfo) int { return strings.Compare(a.Host, b.Host) })
	if answer.Hosts == nil {
		answer.Hosts = []dispatcher.HostInfo{}
	}
	return answer.Hosts, err
}

func hostRow(h *dispatcher.HostInfo, now time.Time) []string {
	state := string(h.State)
	if h.Reason != "" {
		state += ": " + short(firstLine(h.Reason), 60)
	}
	slots := fmt.Sprintf("%d/%d", min(len(h.Running), h.Slots), h.Slots)
	if h.Foreign > 0 {
		slots += fmt.Sprintf(" +%d foreign", h.Foreign)
	}
	running := make([]string, 0, len(h.Running))
	for _, r := range h.Running {
		running = append(running, fmt.Sprintf("%s (%s)", jobRef{tenant: r.Tenant, id: r.Job}.word(), span(now.Sub(r.Since))))
	}
	warm := make([]string, 0, 3)
	for _, hash := range h.Recent[:min(3, len(h.Recent))] {
		warm = append(warm, hash.Short())
	}
	device := h.Device
	if h.Memory > 0 {
		device = strings.TrimSpace(device + " " + bytesText(h.Memory))
	}
	return []string{
		h.Host, state, slots, strings.Join(running, " "), strings.Join(warm, " "), count(h.Capability), count(h.Blocks), count(h.Strikes),
		strings.Join(h.Labels, " "), device, h.Version, ago(h.Time, now),
	}
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

type hostsDrainCmd struct {
	client
	Hosts []string `arg:"" name:"host" help:"Names of hosts."`
}

// Help is shown after the flags.
func (*hostsDrainCmd) Help() string {
	return `Examples:
  dispatcher hosts drain gpu-1
  dispatcher hosts resume gpu-1`
}

// Run drains.
func (h *hostsDrainCmd) Run(ctx context.Context, c *console) error {
	return h.control(ctx, c, h.Hosts, jetstream.Control{Drain: true}, "draining")
}

type hostsResumeCmd struct {
	client
	Hosts []string `arg:"" name:"host" help:"Names of hosts."`
}

// Run resumes.
func (h *hostsResumeCmd) Run(ctx context.Context, c *console) error {
	return h.control(ctx, c, h.Hosts, jetstream.Control{Resume: true}, "taking jobs")
}

func (f *client) control(ctx context.Context, c *console, hosts []string, order jetstream.Control, state string) error {
	for _, host := range hosts {
		if !job.ValidHost(host) {
			return fmt.Errorf("%q is no host name; `dispatcher hosts` lists them", host)
		}
	}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	for _, host := range hosts {
		if _, err := q.Control(ctx, host, order); errors.Is(err, jetstream.ErrNoAgent) {
			return fmt.Errorf("no agent serves host %s; `dispatcher hosts` lists those that are there", host)
		} else if err != nil {
			return err
		}
		c.print("%s is %s", host, state)
	}
	return nil
}
