package dashboard

import "github.com/prometheus/client_golang/prometheus"

// register exports what is counted of the pages that are open at this process.
func (h *hub) register(r prometheus.Registerer) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "comfyherd_live_streams", Help: "Pages that are open at this process and follow the fleet.",
		}, func() float64 { return float64(h.count()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "comfyherd_live_resyncs_total", Help: "How often a page had to read everything anew, since it was too far behind.",
		}, func() float64 { return float64(h.resyncs.Load()) }),
	)
}

// DescribeMetrics registers the metrics of a page without viewers, for their reference.
func DescribeMetrics(r prometheus.Registerer) { (&hub{}).register(r) }
