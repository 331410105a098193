package trace

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAPartOfTheTracesIsExported(t *testing.T) {
	t.Parallel()
	created := time.Unix(1790000000, 0)
	for ratio, want := range map[float64][2]int{0: {0, 0}, 0.1: {60, 140}, 0.5: {430, 570}, 1: {1000, 1000}} {
		n := 0
		for i := range 1000 {
			if sampled(queue.JobEnd{Tenant: "acme", Job: job.ID(fmt.Sprint("j", i))}, created, ratio) {
				n++
			}
		}
		if n < want[0] || n > want[1] {
			t.Errorf("ratio %g exports %d of 1 000", ratio, n)
		}
	}
}

func TestThePublisherDecidesWhetherATraceIsExported(t *testing.T) {
	t.Parallel()
	const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
	for _, c := range []struct {
		traceparent string
		ratio       float64
		want        bool
	}{
		{theirs + "01", 0, true}, {theirs + "00", 1, false}, {theirs + "03", 0, true}, {"", 0, false}, {"", 1, true},
		{"00-4bf9-00f067aa0ba902b7-01", 0, false}, {theirs + "0", 0, false}, {"rubbish", 1, true},
	} {
		if got := sampled(queue.JobEnd{Tenant: "acme", Job: "j", Traceparent: c.traceparent}, time.Unix(1790000000, 0), c.ratio); got != c.want {
			t.Errorf("traceparent %q with ratio %g: %v", c.traceparent, c.ratio, got)
		}
	}
}
