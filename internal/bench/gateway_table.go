package bench

import (
	"fmt"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// Print writes the result as a table for people.
func (r *GatewayResult) Print(c *daemon.Console) error {
	c.Print("one gateway in a process of its own, %d processors; NATS, a dispatcher, a host and all other clients than that of the first rows are this process", r.CPUs)
	c.Print("")
	var rows [][]string
	if s := r.Start; s != nil {
		rows = append(rows, []string{fmt.Sprintf("%d prompts one by one, until execution_start (p50 / p99 / max)", s.Prompts), spread(s.Gateway)},
			[]string{"the same jobs published on NATS by the same client", spread(s.NATS)},
			[]string{"more over the gateway (p50)", fmt.Sprintf("%.2f ms", s.Gateway.P50-s.NATS.P50)},
			[]string{"answer to POST /prompt (p50 / p99 / max)", spread(s.Answer)})
	}
	if i := r.Info; i != nil {
		rows = append(rows, []string{fmt.Sprintf("object_info of %d hosts, %d different", i.Hosts, i.Variants), fmt.Sprintf("%s, %s with gzip", size(float64(i.Bytes)), size(float64(i.Zipped)))},
			[]string{"the first request after a change", fmt.Sprintf("%.1f ms", i.Merge)},
			[]string{"with gzip (p50 / p99 / max)", spread(i.Zip)},
			[]string{"with its ETag (p50 / p99 / max)", spread(i.Same)})
	}
	if f := r.Files; f != nil {
		rows = append(rows, []string{"upload of " + size(float64(f.Bytes)), transfer(f.Upload)},
			[]string{"download of it", transfer(f.Download)},
			[]string{"memory of the gateway before / after", size(float64(f.Before)) + " / " + size(float64(f.After))})
	}
	if s := r.Sockets; s != nil {
		rows = append(rows, []string{fmt.Sprintf("%d websockets at %d previews/s of %s", s.Sockets, s.Rate, size(float64(s.Bytes))), fmt.Sprintf("%.1f %% of %d came", 100*float64(s.Received)/float64(max(1, s.Expected)), s.Expected)},
			[]string{fmt.Sprintf("of %d runs, latency (p50 / p99 / max)", s.Runs), spread(s.Latency)},
			[]string{"cores of the gateway / of the rest", fmt.Sprintf("%.2f / %.2f", s.Cores, s.Rest)},
			[]string{"memory of the gateway", size(float64(s.Memory))})
	}
	return c.Table(rows)
}

func transfer(p Transfer) string {
	return fmt.Sprintf("%.1f s, %s/s, %.1f s of CPU in the gateway", p.Seconds, size(p.BytesPerSecond), p.GatewayCPU)
}
