package main

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/jetstream"
)

// queueCmd shows what waits and runs.
type queueCmd struct {
	client
	JSON bool `help:"Print a JSON array."`
}

// Help is shown after the flags.
func (*queueCmd) Help() string {
	return `A lane is a tenant and a priority. SHARE is of the GPU time used lately at that priority. "9 as 5" is a
priority above the most that its tenant may have (tenants set --max-priority): it counts as that one.

Examples:
  dispatcher queue
  dispatcher queue --json | jq 'map(.depth) | add'`
}

// Run asks and prints.
func (l *queueCmd) Run(ctx context.Context, c *console) error {
	q, done, err := l.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	var answer jetstream.QueueAnswer
	if err := q.Call(ctx, "queue", struct{}{}, &answer); err != nil {
		return err
	}
	if l.JSON {
		return c.json(append(answer.Lanes[:0:0], answer.Lanes...))
	}
	if len(answer.Lanes) == 0 {
		c.say("nothing waits and nothing runs")
		return nil
	}
	now := q.Now()
	rows := [][]string{{"TENANT", "PRIORITY", "WAITING", "OLDEST", "RUNNING", "SHARE"}}
	for _, lane := range answer.Lanes {
		priority := fmt.Sprint(lane.Priority)
		if lane.CountsAs != nil {
			priority += fmt.Sprintf(" as %d", *lane.CountsAs)
		}
		rows = append(rows, []string{
			string(lane.Tenant), priority, fmt.Sprint(lane.Depth), ago(lane.Oldest, now),
			fmt.Sprint(lane.Running), fmt.Sprintf("%.0f %%", 100*lane.Share),
		})
	}
	return c.table(rows)
}
