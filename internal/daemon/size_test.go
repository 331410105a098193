package daemon_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		bytes daemon.Size
		words string
	}{
		"1048576": {1048576, "1 MiB"}, "512MiB": {536870912, "512 MiB"}, "20GB": {20000000000, "18.6 GiB"}, "1.5 gib": {1610612736, "1.5 GiB"},
		"4k": {4096, "4 KiB"}, "0": {0, "0 B"}, "2T": {2199023255552, "2 TiB"}, "100B": {100, "100 B"},
	} {
		var s daemon.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want.bytes || s.String() != want.words {
			t.Errorf("%s is read as %d, %s, %v", text, int64(s), s, err)
		}
	}
	for _, text := range []string{"", "-1", "GiB", "1XB", "NaN", "Inf", "1e30", "9EiB", "ten"} {
		var s daemon.Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, int64(s))
		}
	}
}
