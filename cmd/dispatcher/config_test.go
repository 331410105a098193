package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/test/docs"
)

// configured writes a file for --config.
func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "comfyherd.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsAndVariablesWinOverTheFile(t *testing.T) { // not parallel: the environment belongs to the process
	t.Setenv("COMFYHERD_ACK_WAIT", "20s")
	t.Setenv("NATS_URL", "")
	path := configured(t, `{"ack-wait": "10s", "lane-cap": 7, "compression": true, "nats-url": "nats://file:1", "max-failures": 4,
		"prefer": ["gpu=4090", 3], "jobs": 3, "run": {"lane-cap": 8, "events-age": "24h"}, "submit": {"name": "a cat"}}`)
	keep, policy, url, err := main.RunFlags(t.Context(), "--config", path, "--max-failures=2")
	if err != nil {
		t.Fatal(err)
	}
	want := queue.Config{AckWait: 20 * time.Second, LaneCap: 8, Compression: true, EventsAge: 24 * time.Hour}
	if diff := cmp.Diff(want, keep); diff != "" {
		t.Error(diff)
	}
	if policy.MaxFailures != 2 || url != "nats://file:1" {
		t.Errorf("policy %+v, url %s", policy, url)
	}
	t.Setenv("COMFYHERD_CONFIG", path)
	if keep, _, _, err := main.RunFlags(t.Context()); err != nil || keep.LaneCap != 8 {
		t.Errorf("named by the variable the file gave %+v, %v", keep, err)
	}
}

func TestAFileThatIsWrongIsRefusedInWords(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"Typo":        {`{"lane-cpa": 7}`, `no flag or command is named "lane-cpa"; did you mean "lane-cap"?`},
		"TypoWithin":  {`{"run": {"prset": "development"}}`, `no flag or command is named "run.prset"; did you mean "preset"?`},
		"OfAnother":   {`{"run": {"priority": 3}}`, `no flag or command is named "run.priority"`},
		"Strange":     {`{"xyzzy-plugh": 1}`, `no flag or command is named "xyzzy-plugh"`},
		"NoObject":    {`[1]`, "is no JSON object such as"},
		"Twice":       {`{} {}`, "has something after its JSON object"},
		"Null":        {`{"lane-cap": null}`, "lane-cap is null"},
		"Object":      {`{"lane-cap": {}}`, "lane-cap is a flag"},
		"OutOfRange":  {`{"ack-wait": "10ms"}`, "--ack-wait=10ms is out of range"},
		"NotDuration": {`{"park": "ten"}`, `expected duration but got "ten"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := main.RunFlags(t.Context(), "--config", configured(t, tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, _, _, err := main.RunFlags(t.Context(), "--config", filepath.Join(t.TempDir(), "none.json")); err == nil || !strings.Contains(err.Error(), "--config: ") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// The file that the page shows has flags that exist, with values that they take.
func TestTheFileOfTheConfigurationPageIsRead(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	blocks := docs.Fenced(pages["docs/configuration.md"], "json")
	if len(blocks) != 1 {
		t.Fatalf("docs/configuration.md has %d blocks of JSON", len(blocks))
	}
	keep, policy, url, err := main.RunFlags(t.Context(), "--config", configured(t, blocks[0]))
	if err != nil || keep.LaneCap != 20000 || url != "nats://10.0.0.1:4222" || policy.Cooldown != 2*time.Minute {
		t.Errorf("the file of docs/configuration.md gives %+v, %+v, %s, %v", keep, policy, url, err)
	}
}
