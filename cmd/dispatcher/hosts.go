package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// hostsCmd is about the machines.
type hostsCmd struct {
	List   hostsListCmd   `cmd:"" default:"withargs" help:"List the hosts; dispatcher hosts does the same."`
	Drain  hostsDrainCmd  `cmd:"" help:"Have hosts finish their jobs and accept no others."`
	Resume hostsResumeCmd `cmd:"" help:"Have drained hosts accept jobs again."`
}

type hostsListCmd struct {
	client
	JSON bool `help:"Print a JSON array."`
}

// Help is shown after the flags.
func (*hostsListCmd) Help() string {
	return `Hosts that went offline in the last 24 h are listed as well; SEEN says when.

Examples:
  dispatcher hosts
  dispatcher hosts --json | jq -r '.[] | select(.state != "online") | .host'`
}

// Run lists.
func (h *hostsListCmd) Run(ctx context.Context, c *daemon.Console) error {
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
		return c.JSON(hosts)
	}
	if len(hosts) == 0 {
		c.Say("no host is online; start an agent with `COMFY_HOSTS=http://127.0.0.1:8188 agent`")
		return nil
	}
	now := q.Now()
	rows := [][]string{{"HOST", "STATE", "SLOTS", "RUNNING", "WARM", "CAN", "BLOCKS", "STRIKES", "LABELS", "DEVICE", "COMFYUI", "SEEN"}}
	for i := range hosts {
		rows = append(rows, hostRow(&hosts[i], now))
	}
	if err := c.Table(rows); err != nil {
		return err
	}
	return hostNotes(ctx, c, q, hosts)
}

// hostNotes prints below the table what is wrong with which host, and whose clock is wrong.
func hostNotes(ctx context.Context, c *daemon.Console, q *queue.Queue, hosts []queue.HostInfo) error {
	for i := range hosts {
		h := &hosts[i].HostState
		by, err := drainedBy(ctx, q, h)
		if err != nil {
			return err
		}
		for _, note := range []string{condition(h, by), restWords(&hosts[i], q.Now()), clockWords(h.Host+"'s agent", time.Duration(h.ClockOff))} {
			if note != "" {
				c.Print("%s", note)
			}
		}
	}
	if note := clockWords("this machine", q.ClockOff()); note != "" {
		c.Print("%s", note)
	}
	return nil
}

// drainedBy is the name of the operator who has drained a host, empty when its agent only shuts down.
func drainedBy(ctx context.Context, q *queue.Queue, h *queue.HostState) (string, error) {
	if h.State != queue.Draining {
		return "", nil
	}
	stored, err := q.Condition(ctx, h.Host)
	if err != nil || !stored.Drained {
		return "", err
	}
	return cmp.Or(stored.DrainedBy, "an operator"), nil
}

// listHosts asks the dispatchers, whose answer has blocks and strikes; where none runs, it reads the presence of hosts.
func listHosts(ctx context.Context, c *daemon.Console, q *queue.Queue) ([]queue.HostInfo, error) {
	hosts, err := hostsAndGone(ctx, q)
	if errors.Is(err, nats.ErrNoResponders) {
		c.Say("no dispatcher is running, so blocks and strikes are not known; start one with `dispatcher run`")
		var states []queue.HostState
		states, err = q.Hosts(ctx)
		for i := range states {
			hosts = append(hosts, queue.HostInfo{HostState: states[i]})
		}
	}
	slices.SortFunc(hosts, func(a, b queue.HostInfo) int { return strings.Compare(a.Host, b.Host) })
	if hosts == nil {
		hosts = []queue.HostInfo{}
	}
	return hosts, err
}

// hostsAndGone are the hosts that are present and those that have gone in the last day; only the former while a dispatcher is still
// reading the events.
func hostsAndGone(ctx context.Context, q *queue.Queue) (hosts []queue.HostInfo, err error) {
	request := queue.HostsRequest{Offline: true}
	err = eachPage(asking[queue.HostsAnswer](ctx, q, "hosts", &request), func(page *queue.HostsAnswer) bool {
		hosts = append(hosts, page.Hosts...)
		return following(&request.After, page.Next)
	})
	if _, reading := errors.AsType[*jetstream.Stopping](err); reading {
		return q.AllHosts(ctx)
	}
	return hosts, err
}

func hostRow(h *queue.HostInfo, now time.Time) []string {
	if h.State == queue.Offline {
		return []string{h.Host, string(h.State), "", "", "", "", "", "", "", "", "", daemon.Ago(h.Time, now)}
	}
	slots := fmt.Sprintf("%d/%d", min(len(h.Running), h.Slots), h.Slots)
	if h.Foreign > 0 {
		slots += fmt.Sprintf(" +%d foreign", h.Foreign)
	}
	running := make([]string, 0, len(h.Running))
	for _, r := range h.Running {
		running = append(running, fmt.Sprintf("%s (%s)", jobRef{tenant: r.Tenant, id: r.Job}.word(), daemon.Span(now.Sub(r.Since))))
	}
	warm := make([]string, 0, 3)
	for _, hash := range h.Recent[:min(3, len(h.Recent))] {
		warm = append(warm, hash.Short())
	}
	device := h.Device
	if h.Memory > 0 {
		device = strings.TrimSpace(device + " " + daemon.Size(h.Memory).String())
	}
	state := hostState(&h.HostState)
	if h.Resting != nil && h.State == queue.Online {
		state = "resting"
	}
	return []string{
		h.Host, state, slots, strings.Join(running, " "), strings.Join(warm, " "), count(h.Capability), count(h.Blocks), count(h.Strikes),
		strings.Join(h.Labels, " "), device, h.Version, daemon.Ago(h.Time, now),
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
func (h *hostsDrainCmd) Run(ctx context.Context, c *daemon.Console) error {
	return h.control(ctx, c, h.Hosts, queue.Control{Drain: true})
}

type hostsResumeCmd struct {
	client
	Hosts []string `arg:"" name:"host" help:"Names of hosts."`
}

// Run resumes.
func (h *hostsResumeCmd) Run(ctx context.Context, c *daemon.Console) error {
	return h.control(ctx, c, h.Hosts, queue.Control{Resume: true})
}

// control has the dispatchers drain or resume hosts, and prints the state of each afterwards.
func (f *client) control(ctx context.Context, c *daemon.Console, hosts []string, order queue.Control) error {
	for _, host := range hosts {
		if !job.ValidHost(host) {
			return fmt.Errorf("%q is not a host name; `dispatcher hosts` lists them", host)
		}
	}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	for _, host := range hosts {
		var answer queue.DrainAnswer
		err := q.Call(ctx, "drain", queue.DrainRequest{Host: host, Resume: order.Resume, By: by()}, &answer)
		if _, missing := errors.AsType[*jetstream.NotFound](err); missing {
			return fmt.Errorf("no agent serves host %s; `dispatcher hosts` lists those that are online", host)
		} else if err != nil {
			return err
		}
		answer.Reply.State.Host = host
		c.Print("%s", afterControl(&answer.Reply, order))
	}
	return nil
}

// afterControl describes a host after it was drained or resumed. A host that is unhealthy accepts no jobs after a resume either.
func afterControl(r *queue.Reply, order queue.Control) string {
	s := &r.State
	notDone := "" // what the agent has not done
	if (order.Drain || s.State == queue.Online && !s.Trial) && r.Reason != "" {
		notDone = " (" + daemon.FirstLine(r.Reason) + ")"
	}
	switch {
	case r.Answer == queue.Unfit:
		return fmt.Sprintf("%s refuses: %s", s.Host, orUnknown(daemon.FirstLine(r.Reason)))
	case order.Drain && len(s.Running) > 0:
		return fmt.Sprintf("%s is draining: it finishes %s and takes no other until `dispatcher hosts resume %s`%s", s.Host, daemon.Plural(len(s.Running), "job"), s.Host, notDone)
	case order.Drain:
		return fmt.Sprintf("%s is draining: it runs nothing and takes no job until `dispatcher hosts resume %s`%s", s.Host, s.Host, notDone)
	case s.State == "": // the agent has not said its state
		return s.Host + " is not drained any more; `dispatcher hosts` says whether it takes jobs"
	case s.State != queue.Online:
		return s.Host + " is not drained any more, but takes no job. " + condition(s, "")
	case s.Trial:
		return s.Host + " is not drained any more. " + condition(s, "")
	}
	return s.Host + " is taking jobs" + notDone
}
