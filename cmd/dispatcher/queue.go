package main

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/jetstream"
)

// queueCmd shows what waits and runs.
type queueCmd struct {
	client
	Tenant string `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only the lanes of this tenant."`
	JSON   bool   `help:"Print a JSON array."`
}

// Help is shown after the flags.
func (*queueCmd) Help() string {
	return `A lane is a tenant and a priority. SHARE is the tenant's part of the GPU time used lately at that
priority. PLACE, which only a tenant gets, is the place of a job that would be published now. "9 as 5" is
a priority above the highest of its tenant (tenants set --max-priority): it counts as that one.

Examples:
  dispatcher queue
  dispatcher queue --tenant acme
  dispatcher queue --json | jq 'map(.depth) | add'`
}

// Run asks and prints.
func (l *queueCmd) Run(ctx context.Context, c *daemon.Console) error {
	answer, now, err := l.lanes(ctx, c)
	if err != nil {
		return err
	}
	if l.JSON {
		return c.JSON(answer.Lanes)
	}
	if len(answer.Lanes) == 0 {
		c.Say("no job waits and none runs")
		return nil
	}
	rows := [][]string{{"TENANT", "PRIORITY", "WAITING", "OLDEST", "RUNNING", "SHARE", "PLACE"}}
	for _, lane := range answer.Lanes {
		priority := fmt.Sprint(lane.Priority)
		if lane.CountsAs != nil {
			priority += fmt.Sprintf(" as %d", *lane.CountsAs)
		}
		rows = append(rows, []string{
			string(lane.Tenant), priority, fmt.Sprint(lane.Depth), daemon.Ago(lane.Oldest, now),
			fmt.Sprint(lane.Running), fmt.Sprintf("%.0f %%", 100*lane.Share), count(lane.Place),
		})
	}
	return c.Table(rows)
}

// lanes are those of a tenant, or of all.
func (l *queueCmd) lanes(ctx context.Context, c *daemon.Console) (jetstream.QueueAnswer, time.Time, error) {
	answer := jetstream.QueueAnswer{Lanes: []jetstream.LaneStat{}} // [] and not null when there is none
	if l.Tenant != "" || l.OwnTenant() != "" {
		a, client, err := l.asTenant(ctx, c, l.Tenant)
		if err != nil {
			return answer, time.Time{}, err
		}
		defer a.close()
		own, err := client.Queue(ctx)
		answer.Lanes = append(answer.Lanes, own.Lanes...)
		return answer, client.Now(), err
	}
	q, done, err := l.open(ctx, c)
	if err != nil {
		return answer, time.Time{}, err
	}
	defer done()
	var request jetstream.QueueRequest
	err = eachPage(asking[jetstream.QueueAnswer](ctx, q, "queue", &request), func(page *jetstream.QueueAnswer) bool {
		answer.Lanes = append(answer.Lanes, page.Lanes...)
		return following(&request.After, page.Next)
	})
	return answer, q.Now(), err
}
