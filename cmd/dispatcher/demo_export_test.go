package main

import (
	"cmp"
	"context"
	"io"
	"time"
)

// DemoSetup is what a test may change of a demo. Hosts is as in COMFY_HOSTS.
type DemoSetup struct {
	Hosts, Pictures string
	Intact          bool          // nothing is broken on any host
	Width           int           // of the terminal
	Time            time.Duration // for the whole story; 0 is what a slow machine may need
	Cooldown        time.Duration // of its block; 0 is longer than in `dispatcher demo`, since tests run beside each other
}

// Demo tells the whole story to out.
func Demo(ctx context.Context, out io.Writer, s DemoSetup) error {
	hosts, err := demoHosts(s.Hosts)
	if err != nil {
		return err
	}
	return runDemo(ctx, out, demoOptions{
		hosts: hosts, pictures: s.Pictures, intact: s.Intact, width: s.Width,
		most: cmp.Or(s.Time, 80*time.Second), cooldown: cmp.Or(s.Cooldown, 7*time.Second),
	})
}
