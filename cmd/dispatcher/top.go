package main

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// topCmd shows the fleet as it is, again and again.
type topCmd struct {
	client
	Every time.Duration `default:"2s" placeholder:"DURATION" range:"500ms.." help:"Time between two looks."`
	Once  bool          `help:"Print it once, as without a terminal."`
}

// Help is shown after the flags.
func (*topCmd) Help() string {
	return `Shows hosts, slots, waiting jobs by reason, rates, what needs a person, the tenants, and the jobs that run, on the whole
terminal; 80 columns and 24 lines are enough. Ctrl-C ends it.

Examples:
  dispatcher top
  dispatcher top --every 10s
  dispatcher top --once`
}

// scene is what is shown.
type scene struct {
	overview queue.OverviewAnswer
	running  []jetstream.JobRow
	problem  string // why it is not up to date
}

// Run shows until it is stopped.
func (t *topCmd) Run(ctx context.Context, c *daemon.Console) error {
	stop, _, release := daemon.Signals(ctx)
	defer release()
	q, done, err := t.open(stop, c)
	if err != nil {
		return err
	}
	defer done()
	width, _ := daemon.Dimensions(c.Out)
	if t.Once || width == 0 {
		s, err := look(stop, q)
		if err != nil {
			return err
		}
		for _, line := range drawTop(&s, max(width, 80), 1000) {
			c.Print("%s", line)
		}
		return nil
	}
	screen := daemon.OpenScreen(c.Out)
	defer screen.Close()
	var s scene
	for stop.Err() == nil {
		fresh, err := look(stop, q)
		if err == nil {
			s = fresh
		} else {
			s.problem = daemon.FirstLine(err.Error())
		}
		width, height := daemon.Dimensions(c.Out)
		if err := screen.Draw(drawTop(&s, width, height)); err != nil {
			return err
		}
		queue.Pause(stop, t.Every)
	}
	return nil
}

// look asks for what is shown.
func look(ctx context.Context, q *queue.Queue) (s scene, err error) {
	if err := q.Call(ctx, "overview", queue.OverviewRequest{}, &s.overview); err != nil {
		return s, err
	}
	var running jetstream.JobsAnswer
	err = q.Call(ctx, "jobs", jetstream.JobsRequest{State: job.Started, Limit: 100}, &running)
	s.running = running.Jobs
	return s, err
}

// drawTop are the lines of a screen of that size: each fits into its width, and there are no more than its height.
func drawTop(s *scene, width, height int) []string {
	o := &s.overview
	rate := queue.Rate{}
	for _, r := range o.Rates {
		if time.Duration(r.Window) == 5*time.Minute {
			rate = r
		}
	}
	lines := []string{
		fmt.Sprintf("comfyherd  %s   %s", o.Time.UTC().Format("15:04:05 MST"), daemon.Joined("   ", daemon.Plural(o.Dispatchers, "dispatcher"), s.problem, o.Reading)),
		fmt.Sprintf("hosts      %s", inOrder(o.Hosts, "online", "draining", "unhealthy", "resting", "offline")),
		fmt.Sprintf("slots      %d busy, %d free, %d out", o.Slots.Busy, o.Slots.Free, o.Slots.Out),
		fmt.Sprintf("waiting    %s", waitingText(o)),
		fmt.Sprintf("5 minutes  %d queued, %d completed, %d dead, %d attempts failed", rate.Queued, rate.Completed, rate.Dead, rate.Failed),
		fmt.Sprintf("blocks     %d of %d pairs in use", o.Pairs.Blocked, o.Pairs.Active),
	}
	for _, n := range o.Needs[:min(len(o.Needs), 3)] {
		lines = append(lines, "!          "+daemon.Joined("   ", n.Text, n.Command))
	}
	lines = append(lines, "", fmt.Sprintf("%-24s %7s %8s %7s %7s", "TENANT", "RUNNING", "WAITING", "SHARE", "DUE"))
	for i := range o.Tenants[:min(len(o.Tenants), 5)] {
		t := &o.Tenants[i]
		lines = append(lines, fmt.Sprintf("%-24s %7d %8d %6.0f%% %6.0f%%", daemon.Short(string(t.Tenant), 24), t.Running, t.Waits(), 100*t.Share, 100*t.Due))
	}
	if more := len(o.Tenants) - 5 + o.MoreTenants; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	lines = append(lines, "", fmt.Sprintf("%-28s %-16s %-9s %s", "RUNNING", "HOST", "FOR", "WORKFLOW"))
	for i := range s.running {
		r := &s.running[i]
		name := jobRef{tenant: r.Tenant, id: r.Job}.word()
		if r.Name != "" {
			name = r.Name
		}
		lines = append(lines, fmt.Sprintf("%-28s %-16s %-9s %s", daemon.Short(name, 28), daemon.Short(r.Host, 16), daemon.Span(o.Time.Sub(r.Last.Time)), r.Title))
	}
	return cutToScreen(lines, width, height)
}

// waitingText says how many jobs wait for which reason.
func waitingText(o *queue.OverviewAnswer) string {
	all := 0
	for _, n := range o.Waiting {
		all += n
	}
	text := fmt.Sprint(all)
	if all > 0 {
		text += ": " + inOrder(o.Waiting, "turn", "none_capable", "all_blocked", "excluded", "over_cap", "not_due", "hosts_down", "other_tenants")
	}
	if o.OldestDue != nil {
		text += ", the oldest due " + daemon.Ago(*o.OldestDue, o.Time)
	}
	return text
}

// inOrder lists the numbers that are not 0: "3 online, 1 unhealthy".
func inOrder(counts map[string]int, names ...string) string {
	var parts []string
	for _, name := range names {
		if n := counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, daemon.Spaces(name)))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return daemon.Joined(", ", parts...)
}

// cutToScreen cuts lines, and leaves out those that a screen has no room for.
func cutToScreen(lines []string, width, height int) []string {
	if height > 0 && len(lines) > height {
		lines = append(lines[:height-1:height-1], fmt.Sprintf("… and %d more lines", len(lines)-height+1))
	}
	for i := range lines {
		lines[i] = daemon.Short(daemon.Printable(lines[i]), width)
	}
	return lines
}
