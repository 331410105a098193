package dashboard

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the pages that are open at this process.
type metrics struct {
	resyncs atomic.Int64
	hub     *hub
}

// register exports them; r may be nil.
func (m *metrics) register(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "comfyherd_live_streams", Help: "Pages that are open at this process and follow the fleet.",
		}, func() float64 { return float64(m.hub.count()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "comfyherd_live_resyncs_total", Help: "How often a page had to read everything anew, since it was too far behind.",
		}, func() float64 { return float64(m.resyncs.Load()) }),
	)
}

// DescribeMetrics registers the metrics of a page that nobody sees, for their reference.
func DescribeMetrics(r prometheus.Registerer) { (&metrics{hub: &hub{}}).register(r) }
