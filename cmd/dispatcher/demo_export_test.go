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
}

// Demo tells the whole story to out. Its block lasts longer than in `dispatcher demo`, since tests run beside each other.
func Demo(ctx context.Context, out io.Writer, s DemoSetup) error {
	hosts, err := demoHosts(s.Hosts)
	if err != nil {
		return err
	}
	return runDemo(ctx, out, demoOptions{
		hosts: hosts, pictures: s.Pictures, intact: s.Intact, width: s.Width, most: cmp.Or(s.Time, 80*time.Second), cooldown: 7 * time.Second,
	})
}
