package main

import (
	"context"
	"io"
	"time"
)

// DemoSetup is what a test may change of a demo. Hosts is as in COMFY_HOSTS.
type DemoSetup struct {
	Hosts, Pictures string
	Intact          bool // nothing is broken on any host
	Time            time.Duration
}

// Demo tells the whole story to out.
func Demo(ctx context.Context, out io.Writer, s DemoSetup) error {
	hosts, err := demoHosts(s.Hosts)
	if err != nil {
		return err
	}
	return runDemo(ctx, out, demoOptions{hosts: hosts, pictures: s.Pictures, intact: s.Intact, most: s.Time})
}
