package demo

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// Setup is what a test may change of a demo. Hosts is as in COMFY_HOSTS.
type Setup struct {
	Hosts, Pictures string
	Page            func(*queue.Queue) (string, func() error, error)
	Step            io.Reader
	Keep            bool
	Intact          bool          // nothing is broken on any host
	Width           int           // of the terminal
	Timeout         time.Duration // for the whole demo; 0 is what a slow machine may need
	Cooldown        time.Duration // of its block; 0 is that of `dispatcher demo`
}

// RunWith plays the demo.
func RunWith(ctx context.Context, out io.Writer, s Setup) error {
	hosts, err := HostsOf(s.Hosts)
	if err != nil {
		return err
	}
	return Run(ctx, out, Options{
		Hosts: hosts, Pictures: s.Pictures, Width: s.Width, Page: s.Page, Step: s.Step, Keep: s.Keep,
		intact: s.Intact, timeout: cmp.Or(s.Timeout, 80*time.Second), cooldown: cmp.Or(s.Cooldown, 5*time.Second),
	})
}
