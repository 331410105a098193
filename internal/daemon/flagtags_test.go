package daemon_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// grammar has a flag for each tag and kind of value.
type grammar struct {
	daemon.Limits

	Slots  int           `default:"1" range:"1..64" help:"Jobs at a time."`
	Wait   time.Duration `unset:"30s" range:"1s.." help:"How long."`
	Disk   daemon.Size   `unset:"half of the disk" range:"..1TiB" help:"Bytes."`
	Weight *float64      `range:"0.5..2" help:"Share."`
	Copies int           `oneof:"1,3,5" help:"Copies."`
	Level  string        `default:"info" enum:"debug,info" help:"Level."`
	On     bool          `help:"Whether."`

	Do struct{} `cmd:"" default:"1"`
}

func read(t *testing.T, all *grammar, args ...string) (out string, err error) {
	t.Helper()
	var said bytes.Buffer
	line, err := daemon.NewCommandLine(t.Context(), "tool", "A tool.", all, &daemon.Console{Out: &said, Err: &said}, kong.Vars{})
	if err != nil {
		t.Fatal(err)
	}
	err = line.Read(args)
	return said.String(), err
}

func TestATagThatLimitsAFlagIsChecked(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"--slots=1": "", "--slots=64": "", "--wait=1s": "", "--disk=1TiB": "", "--weight=2": "", "--copies=5": "", "--wait=0s": "",
		"--slots=0":    "--slots=0 is out of range; give 1 to 64",
		"--slots=65":   "--slots=65 is out of range; give 1 to 64",
		"--wait=999ms": "--wait=999ms is out of range; give 1s or more",
		"--wait=-1s":   "--wait=-1s is out of range; give 1s or more",
		"--disk=2TiB":  "--disk=2 TiB is out of range; give at most 1TiB",
		"--weight=0":   "--weight=0 is out of range; give 0.5 to 2",
		"--weight=NaN": "--weight=NaN is out of range; give 0.5 to 2",
		"--copies=2":   "--copies=2 is not possible; give 1, 3 or 5",
	} {
		_, err := read(t, &grammar{}, arg)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: got %v, want %q", arg, err, want)
		}
	}
}

func TestHelpShowsValuesDefaultsAndVariables(t *testing.T) {
	t.Parallel()
	out, err := read(t, &grammar{}, "--help")
	if err != nil {
		t.Fatal(err)
	}
	out = strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"Jobs at a time (1 to 64; default: 1; $COMFYHERD_SLOTS).", "How long (1s or more; default: 30s; $COMFYHERD_WAIT).",
		"Bytes (at most 1TiB; default: half of the disk; $COMFYHERD_DISK).", "Share (0.5 to 2; $COMFYHERD_WEIGHT).",
		"Copies (1, 3 or 5; $COMFYHERD_COPIES).", "Level (debug or info; default: info; $COMFYHERD_LEVEL).", "Whether ($COMFYHERD_ON).",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("help has no %q:\n%s", want, out)
		}
	}
}

func TestATagUnsetSetsNothing(t *testing.T) {
	t.Parallel()
	var all grammar
	if _, err := read(t, &all); err != nil || all.Wait != 0 || all.Disk != 0 || all.Slots != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}
