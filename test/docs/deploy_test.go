package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/test/docs"
)

// deployed are the files that start a program, and the commands whose flags they may set.
var deployed = map[string][]string{
	"deploy/systemd/comfyherd-dispatcher.service":       {"dispatcher run"},
	"deploy/systemd/dispatcher.env":                     {"dispatcher run"},
	"deploy/systemd/comfyherd-agent@.service":           {"agent"},
	"deploy/systemd/agent.env":                          {"agent"},
	"deploy/systemd/credentials.conf":                   {"dispatcher run", "agent"},
	"deploy/kubernetes/base/dispatcher.yaml":            {"dispatcher run"},
	"deploy/kubernetes/base/agents.yaml":                {"agent"},
	"deploy/kubernetes/components/gateway/gateway.yaml": {"dispatcher gateway"},
	"deploy/kubernetes/components/page/page.yaml":       {"dispatcher dashboard"},
	"deploy/helm/comfyherd/templates/dispatcher.yaml":   {"dispatcher run"},
	"deploy/helm/comfyherd/templates/agents.yaml":       {"agent"},
	"deploy/helm/comfyherd/templates/faces.yaml":        {"dispatcher gateway", "dispatcher dashboard"},
	"deploy/helm/comfyherd/templates/_helpers.tpl":      {"dispatcher gateway", "dispatcher dashboard"},
	"deploy/helm/comfyherd/values.yaml":                 {"dispatcher run", "agent", "dispatcher gateway", "dispatcher dashboard"},
	"docker-compose.yml":                                {"dispatcher run", "agent", "dispatcher gateway", "dispatcher dashboard", "dispatcher sim"},
}

var (
	variableName = regexp.MustCompile(`\b(COMFYHERD_[A-Z_]+|NATS_[A-Z]+|COMFY_HOSTS)\b`)
	flagName     = regexp.MustCompile(`(?:^|[\s\[",])--([a-z-]+)`)
	programLine  = regexp.MustCompile(`(?m)^\s*(ExecStart=|args:|command:|entrypoint:).*$`)
)

// flagsOf are the flags and the variables of commands, from the generated part of docs/configuration.md.
func flagsOf(t *testing.T, commands []string) (flags, variables []string) {
	t.Helper()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(pages["docs/configuration.md"], "\n### ")
	for _, section := range sections {
		title, body, _ := strings.Cut(section, "\n")
		if !slices.Contains(commands, strings.Trim(title, "`")) && title != "Connection to NATS" {
			continue
		}
		for _, code := range docs.Code(body) {
			if found := flagName.FindStringSubmatch(code); found != nil {
				flags = append(flags, found[1])
			}
			variables = append(variables, variableName.FindAllString(code, -1)...)
		}
	}
	if len(flags) < 10 {
		t.Fatalf("docs/configuration.md has %d flags of %v", len(flags), commands)
	}
	return flags, variables
}

func TestWhatDeploymentsSetExists(t *testing.T) {
	t.Parallel()
	for name, commands := range deployed {
		flags, variables := flagsOf(t, commands)
		text := fileText(t, name)
		for _, variable := range variableName.FindAllString(text, -1) {
			if !slices.Contains(variables, variable) {
				t.Errorf("%s sets %s, which %v does not read", name, variable, commands)
			}
		}
		for _, line := range programLine.FindAllString(text, -1) {
			for _, flag := range flagName.FindAllStringSubmatch(line, -1) {
				if !slices.Contains(flags, flag[1]) {
					t.Errorf("%s starts %v with --%s, which does not exist", name, commands, flag[1])
				}
			}
		}
	}
}

// Every file below deploy that sets variables is in the list above.
func TestEveryDeploymentIsLookedAt(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err = filepath.Rel(root, name)
		if err == nil && variableName.MatchString(fileText(t, name)) && deployed[filepath.ToSlash(name)] == nil {
			t.Errorf("%s sets variables, and no test looks at them", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// An agent that is stopped has the time of --drain for its jobs; who stops it must wait for longer.
func TestWhoStopsAnAgentWaitsLongerThanItDrains(t *testing.T) {
	t.Parallel()
	for name, patterns := range map[string][2]string{
		"deploy/systemd/comfyherd-agent@.service": {`TimeoutStopSec=(\d+)`, ""},
		"deploy/kubernetes/base/agents.yaml":      {`terminationGracePeriodSeconds: (\d+)`, `COMFYHERD_DRAIN\s+value: (\S+)`},
		"deploy/helm/comfyherd/values.yaml":       {`terminationGracePeriodSeconds: (\d+)`, `drain: (\S+)`},
		"docker-compose.yml":                      {`stop_grace_period: (\d+)m`, ""},
	} {
		text, drain := fileText(t, name), 10*time.Minute
		found := regexp.MustCompile(patterns[0]).FindStringSubmatch(text)
		if found == nil {
			t.Errorf("%s does not say how long it waits", name)
			continue
		}
		n, err := strconv.Atoi(found[1])
		waits := time.Duration(n) * time.Second
		if strings.HasSuffix(patterns[0], "m") {
			waits = time.Duration(n) * time.Minute
		}
		if err == nil && patterns[1] != "" {
			drain, err = time.ParseDuration(regexp.MustCompile(patterns[1]).FindStringSubmatch(text)[1])
		}
		if err != nil || waits < drain+time.Minute {
			t.Errorf("%s waits %s for an agent that drains for %s, %v", name, waits, drain, err)
		}
	}
}

func fileText(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// `go install …@latest` refuses a module that replaces others.
func TestTheModuleReplacesNoOther(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(fileText(t, "go.mod")) {
		if strings.HasPrefix(line, "replace ") || strings.HasPrefix(line, "exclude ") {
			t.Errorf("go.mod has %q, with which go install …@latest does not work", strings.TrimSpace(line))
		}
	}
}
