package docs

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// CheckTrades wants a row in the table <!-- trades: program --> of docs/configuration.md for each setting of a command that
// can be more or less, and no other row.
func CheckTrades(t *testing.T, root, program string, command *kong.Node) {
	t.Helper()
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, flag := range shown(command) {
		if tradeable(flag) {
			want = append(want, "--"+flag.Name)
		}
	}
	for _, row := range Table(pages["docs/configuration.md"], "trades: "+program) {
		got = append(got, Code(row[0])...)
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("docs/configuration.md does not say what %s of %s trades", name, program)
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("docs/configuration.md says what %s of %s trades, which is no such setting", name, program)
		}
	}
}

// tradeable are durations and what has a set or a range of values; the log and the connection trade nothing.
func tradeable(flag *kong.Flag) bool {
	if flag.IsBool() || flag.Group != nil && (flag.Group.Key == "log" || flag.Group.Key == connection) {
		return false
	}
	return daemon.Values(flag.Value) != "" || flag.Target.Type() == reflect.TypeFor[time.Duration]()
}
