package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/dashboard"
)

// store puts a file into COMFY_OUTPUTS.
func (s *site) store(name, contentType, body string) {
	s.t.Helper()
	if _, err := s.q.StoreOutput(s.t.Context(), name, contentType, strings.NewReader(body)); err != nil {
		s.t.Fatal(err)
	}
}

func TestFilesAreServedWhole(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	long := strings.Repeat("0123456789", 40_000) // several parts
	s.store("files/job/9/a b%.png", "image/png", long)
	got := s.ask(http.MethodGet, "/files/files/job/9/a%20b%25.png", "", nil)
	h := got.header
	if got.code != http.StatusOK || got.body != long || h.Get("Content-Type") != "image/png" || h.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("Content-Disposition") != "" || !strings.HasPrefix(h.Get("ETag"), `"SHA-256=`) {
		t.Errorf("%d %v, %d bytes", got.code, h, len(got.body))
	}
	same := s.ask(http.MethodGet, "/files/files/job/9/a%20b%25.png", "", func(r *http.Request) { r.Header.Set("If-None-Match", h.Get("ETag")) })
	if same.code != http.StatusNotModified || same.body != "" {
		t.Errorf("with its digest: %d", same.code)
	}
	for asked, want := range map[string]struct {
		code int
		body string
	}{
		"bytes=5-9": {206, "56789"}, "bytes=399990-": {206, "0123456789"}, "bytes=-3": {206, "789"}, "bytes=200003-200005": {206, "345"},
		"bytes=400000-": {416, ""}, "bytes=0-0": {206, "0"},
	} {
		part := s.ask(http.MethodGet, "/files/files/job/9/a%20b%25.png", "", func(r *http.Request) { r.Header.Set("Range", asked) })
		if part.code != want.code || want.code == 206 && part.body != want.body {
			t.Errorf("%s: %d %.40q, want %d %q", asked, part.code, part.body, want.code, want.body)
		}
	}
	if head := s.ask(http.MethodHead, "/files/files/job/9/a%20b%25.png", "", nil); head.code != http.StatusOK || head.header.Get("Content-Length") != "400000" {
		t.Errorf("HEAD: %d %v", head.code, head.header)
	}
	if none := s.ask(http.MethodGet, "/files/files/job/9/other.png", "", nil); none.code != http.StatusNotFound || !strings.Contains(none.body, "--files-age") {
		t.Errorf("no file: %d %s", none.code, none.body)
	}
}

// A file says itself of what type it is, and a workflow of a stranger may have made it.
func TestNothingThatRunsIsShownInThePage(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	for contentType, inline := range map[string]bool{
		"image/png": true, "image/webp": true, "video/mp4": true, "audio/flac": true,
		"image/svg+xml": false, "text/html": false, "application/xhtml+xml": false, "text/xml": false, "application/pdf": false, "": false,
		"image/png, text/html": false, "text/html; charset=utf-8": false, "image/svg+xml;x=image/png": false, "model/gltf-binary": false,
	} {
		name := "runs/job/9/file"
		s.store(name, contentType, "<script>alert(1)</script>")
		got := s.ask(http.MethodGet, "/files/"+name, "", nil)
		h := got.header
		asFile := strings.HasPrefix(h.Get("Content-Disposition"), "attachment") && h.Get("Content-Type") == "application/octet-stream"
		if got.code != http.StatusOK || asFile == inline || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'; sandbox") {
			t.Errorf("%q: %d %v", contentType, got.code, h)
		}
	}
	s.store("runs/job/9/a.png", "image/png", "x")
	if got := s.ask(http.MethodGet, "/files/runs/job/9/a.png?download", "", nil); got.header.Get("Content-Disposition") != "attachment; filename=a.png" {
		t.Errorf("a download: %v", got.header)
	}
}

func TestATenantGetsItsOwnFilesOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/own:owners-word,look:guests-word"))})
	s.store("own/job/9/a.png", "image/png", "mine")
	s.store("other/job/9/a.png", "image/png", "not mine")
	for path, want := range map[string]int{
		"/files/own/job/9/a.png": 200, "/files/other/job/9/a.png": 404, "/files/own/../other/job/9/a.png": 307, "/files/own/%2e%2e/other/job/9/a.png": 404,
		"/files/own%2F..%2Fother/job/9/a.png": 404,
	} {
		got := s.ask(http.MethodGet, path, "", bearer("owners-word"))
		if got.code != want && (want != 307 || got.code != 301) || strings.Contains(got.body, "not mine") {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
	if got := s.ask(http.MethodGet, "/files/other/job/9/a.png", "", bearer("guests-word")); got.code != http.StatusOK {
		t.Errorf("one who sees all: %d", got.code)
	}
	if got := s.ask(http.MethodGet, "/files/own/job/9/a.png", "", nil); got.code != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", got.code)
	}
}
