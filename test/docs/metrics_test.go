package docs_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/outside"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
	"github.com/comfyherd/comfyherd/test/docs"
)

var update = flag.Bool("update", false, "write the generated part of docs/metrics.md")

// allMetrics are those of each program, and those that all have.
func allMetrics(t *testing.T) map[string][]docs.Metric {
	t.Helper()
	var ofDispatcher, ofAgent, ofGateway, ofBoth docs.Metrics
	dispatcher.DescribeMetrics(&ofDispatcher)
	outside.DescribeMetrics(&ofDispatcher)
	trace.DescribeMetrics(&ofDispatcher)
	dashboard.DescribeMetrics(&ofDispatcher)
	gateway.DescribeMetrics(&ofGateway)
	if err := agent.DescribeMetrics(&ofAgent); err != nil {
		t.Fatal(err)
	}
	ofBoth.MustRegister(daemon.BuildInfo("test"))
	return map[string][]docs.Metric{"dispatcher": ofDispatcher.All, "agent": ofAgent.All, "gateway": ofGateway.All, "both": ofBoth.All}
}

func TestTheReferenceOfMetricsIsFresh(t *testing.T) {
	t.Parallel()
	const name = root + "/docs/metrics.md"
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fresh := string(page)
	for program, metrics := range allMetrics(t) {
		marker := "<!-- metrics: " + program + " -->\n"
		before, rest, found := strings.Cut(fresh, marker)
		if !found {
			t.Fatalf("docs/metrics.md has no line %s", marker)
		}
		_, after, _ := strings.Cut(strings.TrimLeft(rest, "\n"), "\n\n")
		if !strings.HasPrefix(strings.TrimLeft(rest, "\n"), "|") {
			after = strings.TrimLeft(rest, "\n")
		}
		fresh = before + marker + docs.MetricsTable(metrics) + "\n" + after
	}
	if *update {
		if err := os.WriteFile(name, []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if fresh != string(page) {
		t.Error("docs/metrics.md is not what the code has: go test ./test/docs -run Metrics -update")
	}
}

func TestMetricsHaveNamesAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for program, metrics := range allMetrics(t) {
		for _, m := range metrics {
			switch {
			case !strings.HasPrefix(m.Name, "comfyherd_"), seen[m.Name]:
				t.Errorf("%s of %s has another prefix, or stands there twice", m.Name, program)
			case (m.Type == "counter") != strings.HasSuffix(m.Name, "_total"):
				t.Errorf("%s is a %s", m.Name, m.Type)
			case m.Type == "histogram" && !strings.HasSuffix(m.Name, "_seconds"):
				t.Errorf("%s has no unit", m.Name)
			case !strings.HasSuffix(m.Help, "."), slices.Contains(m.Labels, "hash"), slices.Contains(m.Labels, "job"):
				t.Errorf("%s: help %q, labels %v", m.Name, m.Help, m.Labels)
			}
			seen[m.Name] = true
		}
	}
}

var metricName = regexp.MustCompile(`comfyherd_[a-z_]+`)

// checkExpression reports the names in an expression that no program exports.
func checkExpression(t *testing.T, where, expression string) {
	t.Helper()
	known := map[string]bool{}
	for _, metrics := range allMetrics(t) {
		for i := range metrics {
			for _, name := range metrics[i].Series() {
				known[name] = true
			}
		}
	}
	names := metricName.FindAllString(expression, -1)
	if len(names) == 0 {
		t.Errorf("%s has no metric: %s", where, expression)
	}
	for _, name := range names {
		if !known[name] {
			t.Errorf("%s names %s, which does not exist", where, name)
		}
	}
	if strings.Count(expression, "(") != strings.Count(expression, ")") || strings.Count(expression, "{") != strings.Count(expression, "}") {
		t.Errorf("%s has brackets that do not match: %s", where, expression)
	}
}

func TestEveryAlertHasARunbookAndKnownMetrics(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(root + "/deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(root + "/docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for _, rule := range strings.Split(string(rules), "- record: ")[1:] {
		name, body, _ := strings.Cut(rule, "\n")
		_, expression, _ := strings.Cut(body, "expr: ")
		expression, _, _ = strings.Cut(expression, "\n      - ")
		expression, _, _ = strings.Cut(expression, "\n  - ")
		checkExpression(t, name, expression)
		recorded[name] = true
	}
	for _, name := range regexp.MustCompile(`comfyherd:[a-z0-9_:]+`).FindAllString(string(rules), -1) {
		if !recorded[name] {
			t.Errorf("an alert names %s, which no rule records", name)
		}
	}
	var names, headings []string
	_, alerts, _ := strings.Cut(string(page), "<!-- alerts -->\n")
	for _, heading := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(alerts, -1) {
		headings = append(headings, heading[1])
	}
	for _, rule := range strings.Split(string(rules), "- alert: ")[1:] {
		name, body, _ := strings.Cut(rule, "\n")
		names = append(names, name)
		_, expression, _ := strings.Cut(body, "expr: ")
		expression, _, _ = strings.Cut(expression, "\n        for: ")
		checkExpression(t, name, expression)
		for _, part := range []string{"for: ", "severity: ", "summary: ", "docs/troubleshooting.md#" + strings.ToLower(name) + "\n"} {
			if !strings.Contains(body, part) {
				t.Errorf("alert %s lacks %q", name, part)
			}
		}
	}
	same(t, "runbook", headings, names)
}

// A rule of the overview and the alert for the same have one name.
func TestEveryRuleOfTheOverviewHasItsAlert(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(root + "/deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range read(t, "internal/queue").values("Rule") {
		if rule == string(queue.NoHosts) {
			continue // a fleet that has not begun
		}
		name := ""
		for word := range strings.SplitSeq(rule, "_") {
			name += strings.ToUpper(word[:1]) + word[1:]
		}
		if !strings.Contains(string(rules), "- alert: "+name+"\n") {
			t.Errorf("the rule %s has no alert %s", rule, name)
		}
	}
}

func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "/deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		Title   string `json:"title"`
		Type    string `json:"type"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	}
	var board struct {
		UID    string  `json:"uid"`
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	expressions := 0
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %s asks for nothing", p.Title)
		}
		for i, target := range p.Targets {
			checkExpression(t, fmt.Sprintf("panel %s, %d", p.Title, i), target.Expr)
			expressions++
		}
	}
	if board.UID != "comfyherd" || expressions < 20 {
		t.Errorf("uid %q, %d expressions", board.UID, expressions)
	}
}
