package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// hostsSay lists why each host does not take the job, or refused it.
func hostsSay(c *daemon.Console, hosts map[string]string) error {
	if len(hosts) == 0 {
		return nil
	}
	c.Print("hosts:")
	rows := [][]string{{"HOST", "WHY"}}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		rows = append(rows, []string{host, daemon.FirstLine(hosts[host])})
	}
	return c.Table(rows)
}

// outputs lists the files that a job made, and below them its texts.
func outputs(c *daemon.Console, e *job.Event) error {
	rows := [][]string{{"NODE", "MEDIA", "FILE", "SIZE", "OBJECT"}}
	for i := range e.Outputs {
		if o := &e.Outputs[i]; !daemon.IsText(o) || o.Object != "" {
			rows = append(rows, []string{o.Node, o.Media, o.Filename, daemon.Size(o.Size).String(), o.Object})
		}
	}
	if len(rows) > 1 {
		c.Print("files in COMFY_OUTPUTS, for a limited time:")
		if err := c.Table(rows); err != nil {
			return err
		}
	}
	for i := range e.Outputs {
		if o := &e.Outputs[i]; daemon.IsText(o) && o.Text != "" {
			c.Print("text of node %s:", o.Node)
			for line := range strings.Lines(o.Text) {
				c.Print("  %s", strings.TrimRight(line, "\r\n"))
			}
		}
	}
	return nil
}

func attempts(c *daemon.Console, e *job.Event) error {
	rows := [][]string{{"ATTEMPT", "HOST", "KIND", "NODE", "MESSAGE"}}
	for _, a := range e.Attempts {
		node := strings.TrimSpace(a.Node + " " + a.Class)
		rows = append(rows, []string{fmt.Sprint(a.Number), a.Host, daemon.FailureText(a.Kind, a.Cause), node, daemon.FirstLine(a.Message)})
	}
	return c.Table(rows)
}

func (l *letter) show(c *daemon.Console, now time.Time) error {
	e := &l.event
	c.Print("job %s of tenant %s, priority %d, workflow %s", l.Job, l.Tenant, l.priority(), e.Hash.Short())
	c.Print("dead %s: %s", daemon.Ago(e.Time, now), l.Reason)
	if e.Message != "" {
		c.Print("%s", daemon.FirstLine(e.Message))
	}
	if e.RequeueOf != "" {
		c.Print("it was a requeue of %s", e.RequeueOf)
	}
	if err := hostsSay(c, e.Hosts); err != nil {
		return err
	}
	if len(e.Attempts) > 0 {
		if err := attempts(c, e); err != nil {
			return err
		}
	}
	if l.own {
		return nil
	}
	c.Print("published as %s; --body prints it", daemon.Size(len(l.Body)).String())
	if members := l.ExtraData(); len(members) > 0 {
		c.Print("without its extra_data, which had %s and is not kept", strings.Join(members, ", "))
	}
	return nil
}
