//go:build unix

package dashboard_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	viewersTried = 200
	viewersRate  = 100 // events a second
	viewersTime  = 10 * time.Second
)

// TestTwoHundredViewers measures what viewers cost: the CPU of this process, with and without them, while events are stored. It measures
// a machine, so it runs only when it is asked for: DASHBOARD_VIEWERS=1. The viewers are in this process too.
func TestTwoHundredViewers(t *testing.T) { //nolint:paralleltest // it measures
	if os.Getenv("DASHBOARD_VIEWERS") == "" {
		t.Skip("measures this machine: DASHBOARD_VIEWERS=1 runs it")
	}
	s := serve(t, dashboard.Config{})
	alone := s.burden("alone")
	var received atomic.Int64
	for range viewersTried {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = fmt.Fprintf(c, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n") // the wait below tells whether it arrived
		go func() {
			n, _ := io.Copy(io.Discard, c) // until the end of the test
			received.Add(n)
		}()
	}
	s.eventually("all viewers are there", func() bool { return s.d.Viewers() == viewersTried })
	seen := s.burden("seen")
	t.Logf("at %d events/s: %.1f %% of a core alone, %.1f %% with %d viewers, %.2f %% for each", viewersRate, alone, seen, viewersTried, (seen-alone)/viewersTried)
	if s.d.Viewers() != viewersTried {
		t.Errorf("%d viewers are left", s.d.Viewers())
	}
}

// burden stores events for a while and gives the CPU that this process has taken, in percent of a core.
func (s *site) burden(tenant job.Tenant) float64 {
	s.t.Helper()
	tick := time.NewTicker(time.Second / viewersRate)
	defer tick.Stop()
	begun, before := time.Now(), cpu()
	for n := 0; time.Since(begun) < viewersTime; n++ {
		<-tick.C
		s.tell(tenant, fmt.Sprintf("job-%d", n))
	}
	return 100 * float64(cpu()-before) / float64(time.Since(begun))
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of this process it never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
