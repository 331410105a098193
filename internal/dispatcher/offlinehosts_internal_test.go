package dispatcher

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/jetstream"
)

func TestHostsThatHaveGoneAreRememberedForADay(t *testing.T) {
	t.Parallel()
	h := newJobHistory(nil, 10, slog.New(slog.DiscardHandler))
	begin := time.Unix(1_800_000_000, 0)
	for i, subject := range []string{
		"gpu-1.online", "gpu-1.offline", "gpu-2.offline", "gpu-2.online", "gpu-3.offline", "gpu-3.unhealthy", "gpu 4.offline", "gpu-5.offline",
	} {
		h.take(jetstream.Note{Subject: "comfy.events.hosts." + subject, Time: begin.Add(time.Duration(i) * time.Hour)})
	}
	want := map[string]time.Time{"gpu-1": begin.Add(time.Hour), "gpu-5": begin.Add(7 * time.Hour)}
	if diff := cmp.Diff(want, h.offlineSince(begin.Add(8*time.Hour))); diff != "" {
		t.Error(diff)
	}
	delete(want, "gpu-1")
	if diff := cmp.Diff(want, h.offlineSince(begin.Add(25*time.Hour))); diff != "" {
		t.Errorf("a day later: %s", diff)
	}
}
