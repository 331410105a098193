package daemon_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestLinesReadAsTimeLevelMessageAndValues(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		write func(*slog.Logger)
		want  string
	}{
		"Plain":        {func(l *slog.Logger) { l.Info("ready") }, "INFO  ready\n"},
		"Values":       {func(l *slog.Logger) { l.Warn("host is gone", "host", "gpu-1", "jobs", 2) }, "WARN  host is gone  host=gpu-1 jobs=2\n"},
		"Error":        {func(l *slog.Logger) { l.Error("ended", "error", errors.New("no disk")) }, "ERROR ended  error=\"no disk\"\n"},
		"Duration":     {func(l *slog.Logger) { l.Info("blocked", "for", time.Minute) }, "INFO  blocked  for=1m0s\n"},
		"OwnLevel":     {func(l *slog.Logger) { l.Info("blocked", "level", 2, "msg", "m", "time", "t") }, "INFO  blocked  level=2 msg=m time=t\n"},
		"With":         {func(l *slog.Logger) { l.With("host", "a").Info("up", "slots", 1) }, "INFO  up  host=a slots=1\n"},
		"Group":        {func(l *slog.Logger) { l.WithGroup("job").Info("up", "id", "x") }, "INFO  up  job.id=x\n"},
		"BelowLevel":   {func(l *slog.Logger) { l.Debug("noise") }, ""},
		"ForgedLine":   {func(l *slog.Logger) { l.Info("a\nb") }, "INFO  \"a\\nb\"\n"},
		"ForgedValue":  {func(l *slog.Logger) { l.Info("a", "k", "x\ny=1") }, "INFO  a  k=\"x\\ny=1\"\n"},
		"NoAttributes": {func(l *slog.Logger) { l.With("host", "a"); l.Info("up") }, "INFO  up\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			tc.write(daemon.Logger(&out, slog.LevelInfo, false))
			got := out.String()
			if got == "" && tc.want == "" {
				return
			}
			const stamp = "2026-12-01T03:00:00.123Z "
			if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) `).MatchString(got) {
				t.Fatalf("no time in front: %q", got)
			}
			_, rest, _ := bytes.Cut([]byte(got), []byte(" "))
			if string(rest) != tc.want {
				t.Fatalf("got  %q\nwant %q after a time as %q", rest, tc.want, stamp)
			}
		})
	}
}

func TestJSONLinesAreForMachines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	daemon.Logger(&out, slog.LevelDebug, true).Debug("up", "host", "a")
	var line struct{ Level, Msg, Host string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "DEBUG" || line.Msg != "up" || line.Host != "a" {
		t.Fatalf("got %+v", line)
	}
}
