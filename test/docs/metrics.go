package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is a metric as the reference shows it.
type Metric struct {
	Name, Help string
	Type       string // counter, gauge or histogram
	Labels     []string
}

// Metrics is a registerer that notes what is registered, and exports nothing.
type Metrics struct{ All []Metric }

var _ prometheus.Registerer = (*Metrics)(nil)

var descForm = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

// Register notes the metrics of a collector.
func (m *Metrics) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for desc := range descs {
		parts := descForm.FindStringSubmatch(desc.String())
		if parts == nil {
			return fmt.Errorf("a description has an unknown form: %s", desc)
		}
		metric := Metric{Name: parts[1], Help: strings.ReplaceAll(parts[2], `\"`, `"`), Type: typeOf(c, parts[1])}
		if parts[3] != "" {
			metric.Labels = strings.Split(parts[3], ",")
		}
		m.All = append(m.All, metric)
	}
	return nil
}

// MustRegister notes the metrics of collectors.
func (m *Metrics) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := m.Register(c); err != nil {
			panic(err) //nolint:forbidigo // as Prometheus' own registry does, in a test
		}
	}
}

// Unregister does nothing.
func (m *Metrics) Unregister(prometheus.Collector) bool { return false }

func typeOf(c prometheus.Collector, name string) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.CounterVec:
		return "counter"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// Series are the names under which Prometheus stores a metric.
func (m *Metric) Series() []string {
	if m.Type != "histogram" {
		return []string{m.Name}
	}
	return []string{m.Name, m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
}

// MetricsTable is the reference of some metrics, by name.
func MetricsTable(all []Metric) string {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString("| metric | type | labels | what |\n|---|---|---|---|\n")
	for _, m := range all {
		labels := ""
		for _, l := range m.Labels {
			labels += " `" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s |%s | %s |\n", m.Name, m.Type, labels, m.Help)
	}
	return b.String()
}
