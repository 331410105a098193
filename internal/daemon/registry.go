package daemon

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Registry is a registry with the metrics that every process has: of Go, of the process, and what it is. role is dispatcher,
// agent or the like.
func Registry(role string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), BuildInfo(role))
	return r
}

// BuildInfo is a gauge that is always 1, with what the process is as its labels.
func BuildInfo(role string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "comfyherd_build_info", Help: "1, with the version, the version of Go, and what the process is as labels.",
	}, []string{"version", "goversion", "role"})
	g.WithLabelValues(Version(), runtime.Version(), role).Set(1)
	return g
}
