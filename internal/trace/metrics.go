package trace

import "github.com/prometheus/client_golang/prometheus"

// metrics count jobs.
type metrics struct {
	exported prometheus.Counter
	dropped  prometheus.Counter
	pending  prometheus.GaugeFunc
}

func newMetrics(pending func() int) *metrics {
	return &metrics{
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_traces_exported_total", Help: "Jobs whose trace was exported.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_traces_dropped_total", Help: "Jobs whose trace was to be exported and was given up, mostly as the receiver could not be reached.",
		}),
		pending: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "comfyherd_traces_pending", Help: "Jobs whose trace is to be exported still.",
		}, func() float64 { return float64(pending()) }),
	}
}

func (m *metrics) register(r prometheus.Registerer) { r.MustRegister(m.exported, m.dropped, m.pending) }

// DescribeMetrics registers the metrics, for their reference.
func DescribeMetrics(r prometheus.Registerer) { newMetrics(func() int { return 0 }).register(r) }
