package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Zero means the default and a negative value none, where there can be none.
func TestWhatIsNotConfiguredHasTheDefaults(t *testing.T) {
	t.Parallel()
	given := Config{
		Slots: 3, Prefetch: 2, Drain: 1, StartTimeout: 2, NodeTimeout: 3, TotalTimeout: 4, FreezeTimeout: 5, LearnEvery: 6, CancelTimeout: 7,
		Outputs: OutputsNone, MaxInput: 8, InputURLs: URLsAny,
	}
	for name, c := range map[string]struct{ cfg, want Config }{
		"Nothing": {Config{}, Config{
			Slots: 1, Prefetch: 1, Drain: 10 * time.Minute, StartTimeout: time.Minute, NodeTimeout: 10 * time.Minute, FreezeTimeout: 15 * time.Second,
			LearnEvery: time.Minute, CancelTimeout: 10 * time.Second, Outputs: "store", MaxInput: 4294967296, InputURLs: "public",
		}},
		"None": {
			Config{Slots: -1, Prefetch: -1, Drain: -1, StartTimeout: -1, NodeTimeout: -1, TotalTimeout: -1, FreezeTimeout: -1, LearnEvery: -1, CancelTimeout: -1},
			Config{Slots: 1, FreezeTimeout: 15 * time.Second, LearnEvery: time.Minute, Outputs: "store", MaxInput: 4294967296, InputURLs: "public"},
		},
		"Given": {given, given},
	} {
		got := c.cfg.withDefaults()
		if got.Logger == nil {
			t.Errorf("%s: there is no log", name)
		}
		got.Logger = nil
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNamesOfHostsAreMadeOfTheirAddresses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 70)
	for _, c := range []struct{ address, machine, want string }{
		{"http://127.0.0.1:8188", "", "127-0-0-1-8188"}, {"http://127.8.9.1:8188", "box", "box-8188"}, {"http://[::1]:8188", "box", "box-8188"},
		{"http://localhost:8188", "", "localhost-8188"}, {"http://localhost.lan:8188", "box", "localhost-lan-8188"}, {"http://10.0.0.5:8188/", "box", "10-0-0-5-8188"},
		{"http://u:secret@Gpu_09azAZ:8188/a/b/", "box", "Gpu_09azAZ-8188-a-b"}, {"http://" + long + ":8188", "box", strings.Repeat("a", 59) + "-8188"},
		{"http://" + strings.Repeat("a", 59) + ":8188", "box", strings.Repeat("a", 59) + "-8188"}, {"http://[fd00::1]:8188", "box", "fd00--1--8188"}, {"http://h:x", "box", ""},
		{"http://h:1/a~b", "box", "h-1-a-b"},
	} {
		if got := nameOf(c.address, c.machine); got != c.want {
			t.Errorf("%s on machine %q is named %q, want %q", c.address, c.machine, got, c.want)
		}
	}
}

func TestAnAddressIsShownWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"http://u:secret@h:1/a": "http://h:1/a", "http://h:1": "http://h:1", "http://u:secret@h:x": "an unreadable address"} {
		if got := withoutUser(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}
