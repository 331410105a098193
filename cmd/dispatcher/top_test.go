package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// crowded is a fleet with more than a screen has room for.
func crowded() (queue.OverviewAnswer, []jetstream.JobRow) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	due := now.Add(-3 * time.Minute)
	o := queue.OverviewAnswer{
		Time: now, Dispatchers: 2, Hosts: map[string]int{"online": 12, "unhealthy": 1}, Slots: queue.SlotCounts{Busy: 9, Free: 3, Out: 1},
		Waiting: map[string]int{"turn": 7, "all_blocked": 2}, OldestDue: &due, Pairs: queue.PairCounts{Active: 40, Blocked: 3},
		Rates: []queue.Rate{{Window: job.Duration(time.Minute), Completed: 1}, {Window: job.Duration(5 * time.Minute), Queued: 60, Completed: 50, Dead: 2, Failed: 4}},
		Needs: []queue.Need{{Rule: queue.HostsSick, Count: 1, Text: "1 host is unhealthy", Command: "dispatcher hosts"}},
	}
	for i := range 30 {
		o.Tenants = append(o.Tenants, queue.TenantCounts{Tenant: job.Tenant(fmt.Sprintf("tenant-%02d-with-a-very-long-name", i)), Running: 1, Waiting: map[string]int{"turn": 3}, Share: 0.25, Due: 0.5})
	}
	var running []jetstream.JobRow
	for i := range 40 {
		running = append(running, jetstream.JobRow{
			Job: job.ID(fmt.Sprintf("job-%02d", i)), Tenant: "acme", Host: "gpu-1", Title: strings.Repeat("a long title ", 10), Last: jetstream.Mark{Time: now.Add(-time.Minute)},
		})
	}
	running[0].Name = "a cat in a hat"
	return o, running
}

func TestTheScreenOfTopFits80ColumnsAnd24Lines(t *testing.T) {
	t.Parallel()
	overview, running := crowded()
	lines := main.DrawTop(overview, running, "NATS is away", 80, 24)
	if len(lines) != 24 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{
		"comfyherd  12:00:00 UTC   2 dispatchers   NATS is away",
		"hosts      12 online, 1 unhealthy",
		"slots      9 busy, 3 free, 1 out",
		"waiting    9: 7 turn, 2 all blocked, the oldest due 3m00s ago",
		"5 minutes  60 queued, 50 completed, 2 dead, 4 attempts failed",
		"blocks     3 of 40 pairs in use",
		"!          1 host is unhealthy   dispatcher hosts",
		"tenant-00-with-a-very-l…       1        3     25%     50%",
		"and 25 more",
		"a cat in a hat               gpu-1            1m00s     a long title a long tit…",
		"… and 34 more lines",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestTheScreenOfTopOfAnEmptyFleet(t *testing.T) {
	t.Parallel()
	lines := main.DrawTop(queue.OverviewAnswer{}, nil, "", 40, 10)
	for _, want := range []string{"hosts      none", "waiting    0"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}
