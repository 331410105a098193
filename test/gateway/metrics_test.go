package gateway_test

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
)

// counts are the values of a registry's counters and gauges, and how often histograms have observed, by name and values of labels:
// "requests_total 2xx queue".
func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "comfyherd_gateway_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestAGatewayCountsWhatComesToIt(t *testing.T) {
	t.Parallel()
	tenant := tenantOf(t)
	registry := prometheus.NewRegistry()
	g, err := gateway.New(shared.q, gateway.Config{Listen: "127.0.0.1:0", Keys: map[string]job.Tenant{keyOf(tenant): tenant}, Logger: logger(), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running(g.Run))
	f := &face{t: t, tenant: tenant, key: keyOf(tenant), base: "http://" + g.Addr()}
	before := counts(t, registry)

	catalogued(f)
	f.do(http.MethodGet, "/queue", nil, "Authorization", "")
	f.do(http.MethodGet, "/queue", nil, "Authorization", "Bearer wrong-key")
	f.do(http.MethodGet, "/queue", nil, "Origin", "http://elsewhere.example")
	f.do(http.MethodGet, "/api/queue", nil)
	f.do(http.MethodGet, "/nothing/here", nil)
	f.do(http.MethodGet, "/history/nobody", nil)
	f.upload("/upload/image", "counted.txt", make([]byte, 3000))
	if a := f.do(http.MethodGet, "/view?filename=counted.txt&type=input", nil); len(a.body) != 3000 {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.prompt(map[string]any{"prompt": picture(77)})
	f.do(http.MethodPost, "/prompt", map[string]any{"prompt": graph{}})
	f.do(http.MethodPost, "/prompt", map[string]any{"prompt": graph{"1": node("NobodyHasThis", map[string]any{})}})
	f.do(http.MethodPost, "/api/v2/jobs", map[string]any{"workflow": graph{"1": node("NobodyHasThis", map[string]any{})}})
	f.do(http.MethodGet, "/api/v2/nothing", nil)
	s := f.socket("counted")
	open := counts(t, registry)
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	now := counts(t, registry)
	counted := func() bool { return now["requests_total 1xx ws"] > 0 && now["websockets"] == 0 } // both follow the end of the socket, one after the other
	for deadline := time.Now().Add(testTimeout); !counted() && time.Now().Before(deadline); now = counts(t, registry) {
		runtime.Gosched()
	}

	for name, want := range map[string]float64{
		"refused_total no_key": 1, "refused_total wrong_key": 1, "refused_total origin": 1, "refused_total host": 0,
		"requests_total 4xx none": 5, "requests_total 2xx queue": 1, "requests_total 4xx queue": 0, "requests_total 2xx history": 1,
		"requests_total 2xx view": 1, "requests_total 2xx upload": 1, "requests_total 2xx prompt": 1, "requests_total 4xx prompt": 2, "requests_total 5xx prompt": 0,
		"requests_total 4xx v2_jobs": 1, "requests_total 1xx ws": 1, "request_seconds prompt": 3, "sent_bytes_total view": 3000,
		"jobs_submitted_total comfyui": 1, "jobs_submitted_total v2": 0, "jobs_refused_total invalid": 1, "jobs_refused_total no_host": 2, "jobs_refused_total full": 0,
		"websockets": 0, "frames_total relayed": 1, "frames_total dropped": 0, "websockets_cut_total": 0,
	} {
		if first, there := before[name]; !there || first != 0 {
			t.Errorf("%s is there from the start: %v, with %v", name, there, first)
		}
		if now[name] != want {
			t.Errorf("%s is %v, want %v", name, now[name], want)
		}
	}
	if open["websockets"] != 1 || now["received_bytes_total upload"] < 3000 || now["sent_bytes_total ws"] == 0 {
		t.Errorf("open %v, uploaded %v, over websockets %v", open["websockets"], now["received_bytes_total upload"], now["sent_bytes_total ws"])
	}
	if len(now) != len(before) {
		t.Errorf("%d series became %d: a set of labels is not closed", len(before), len(now))
	}
}
