package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAJobsTimeoutsAreNoLongerThanTheAgents(t *testing.T) {
	t.Parallel()
	h := &host{cfg: Config{StartTimeout: time.Minute, NodeTimeout: 10 * time.Minute}}
	for _, c := range []struct{ wish, start, node, total time.Duration }{
		{0, time.Minute, 10 * time.Minute, 0},
		{time.Second, time.Second, time.Second, time.Second},
		{5 * time.Minute, time.Minute, 5 * time.Minute, 5 * time.Minute},
		{time.Hour, time.Minute, 10 * time.Minute, time.Hour},
		{-time.Second, time.Minute, 10 * time.Minute, 0},
	} {
		wish := job.Duration(c.wish)
		if start, node, total := h.limits(&job.Timeouts{Start: &wish, Node: &wish, Total: &wish}); start != c.start || node != c.node || total != c.total {
			t.Errorf("%s: %s, %s and %s", c.wish, start, node, total)
		}
	}
	h.cfg.TotalTimeout = time.Hour
	if start, node, total := h.limits(nil); start != time.Minute || node != 10*time.Minute || total != time.Hour {
		t.Errorf("without timeouts: %s, %s and %s", start, node, total)
	}
}

func TestALongAnswerIsNotKeptInPart(t *testing.T) {
	t.Parallel()
	var b answerBuffer
	half := bytes.Repeat([]byte("x"), largestRoute/2)
	for n, want := range []int{len(half), 2 * len(half), 0, 0} {
		switch n {
		case 2:
			half = []byte("x")
		case 3:
			half = []byte("y") // after a long one
		}
		if wrote, err := fmt.Fprintf(&b, "%s", half); wrote != len(half) || err != nil || b.Len() != want || b.over != (n >= 2) {
			t.Errorf("write %d: %d bytes are kept, want %d; over is %t", n, b.Len(), want, b.over)
		}
	}
}

func TestOnlyRoutesThatDescribeTheInstallationArePassedOn(t *testing.T) {
	t.Parallel()
	for route, want := range map[string]bool{
		"embeddings": true, "api/embeddings": true, "models/loras": true, "object_info/KSampler": true, "docs/a/b": true,
		"": false, "object_info": false, "userdata/a": false, "history": false, "docs/../history": false, "docs//a": false, "/docs/a": false,
		`docs/a\b`: false, "docs/a?b": false, "docs/a#b": false, "docs/%2e%2e": false, "api/api/embeddings": false, "embeddings/x": false,
		"api/etn/languages": true, "etn/model_info/loras": true, "api/etn/translate/de/was? 50 % \\ #1": true, "etn/translate/de/..": false,
		"etn/translate/de/a/b": false, "etn/translate/d?/a": false, "etn/translate/": false, "etn/translate/de/" + strings.Repeat("x", longestText): true,
		"etn/translate/de/x" + strings.Repeat("x", longestText): false, "etn/image/a": false, "etn/upload/loras/a": false,
	} {
		if passes(route) != want {
			t.Errorf("%q is passed on: %t", route, !want)
		}
	}
}

func TestPicturesThatAreSmallGetNoSmallerOne(t *testing.T) {
	t.Parallel()
	h := &host{thumbs: make(chan struct{}, 1)} // without a ComfyUI: what is read fails the test
	for _, out := range []job.Output{
		{ContentType: "image/png", Size: smallPicture}, {ContentType: "image/png", Size: mostPicture + 1}, {ContentType: "text/plain", Size: smallPicture + 1},
		{ContentType: "video/mp4", Size: smallPicture + 1}, // without a preview
	} {
		if name := h.thumbnail(t.Context(), &attempt{}, &result{}, &out); name != "" {
			t.Errorf("%s of %d bytes has %s", out.ContentType, out.Size, name)
		}
	}
}
