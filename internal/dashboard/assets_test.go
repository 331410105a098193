package dashboard_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/dashboard"
)

// budget is what all files of the page may have together, compressed: a phone has them after a moment.
const budget = 60_000

func TestThePageIsSmall(t *testing.T) {
	t.Parallel()
	zipped, err := dashboard.Served()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, body := range zipped {
		sum += len(body)
	}
	if sum > budget {
		t.Errorf("the page has %d bytes compressed, at most %d", sum, budget)
	}
	t.Logf("%d files, %d bytes compressed", len(zipped), sum)
}

// vendored are the files of lit-html 3.3.3 as npm has them, which nobody edits. `make vendor-check` compares them with the registry.
var vendored = map[string]string{
	"LICENSE":              "2b66f9390afde29edfe4314daff93f01fb182e1178053e228120178987e5db75",
	"lit-html.js":          "b878e7f95dec8a9b6e9b217faca6b6a11bad82ebc44c0caa77419ed83edd81f2",
	"directive.js":         "3344c4f41c69cd0701d3937e8f9ef90bd845614bf6456d0b8314b7c51d415b9d",
	"directive-helpers.js": "f7fb1154b8f72ed2cc08b05eaeed71c99270e9ad2d48620ed24688a1af4c2b62",
	"directives/repeat.js": "083140026ecd8665fedd15b17769f9d516252a9f1502f1e91e6967686ee82626",
}

func TestVendoredFilesAreThoseOfTheirRelease(t *testing.T) {
	t.Parallel()
	raw, err := dashboard.Sources()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for name, body := range raw {
		name, ours := strings.CutPrefix(name, "vendor/lit-html/")
		if !ours {
			continue
		}
		found++
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != vendored[name] {
			t.Errorf("%s has the SHA-256 %x, want %s", name, sum, vendored[name])
		}
	}
	if found != len(vendored) {
		t.Errorf("%d files, want %d", found, len(vendored))
	}
}

var (
	imported = regexp.MustCompile(`(?m)^import [^;]*?'([^']+)';`)
	outside  = regexp.MustCompile(`(?:src|href|url\(|import|fetch\()\s*[=(]?\s*["'(]?(?:https?:)?//`)
)

func TestModulesImportOnlyEachOther(t *testing.T) {
	t.Parallel()
	raw, err := dashboard.Sources()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"app.js": true}
	for name, body := range raw {
		if strings.HasPrefix(name, "vendor/") || path.Ext(name) != ".js" {
			continue
		}
		if lines := bytes.Count(body, []byte("\n")); lines > 280 {
			t.Errorf("%s has %d lines", name, lines)
		}
		if outside.Match(body) {
			t.Errorf("%s loads something from elsewhere", name)
		}
		for _, match := range imported.FindAllSubmatch(body, -1) {
			to := path.Join(path.Dir(name), string(match[1]))
			used[to] = true
			if raw[to] == nil || !strings.HasPrefix(string(match[1]), ".") {
				t.Errorf("%s imports %s, which is not there", name, match[1])
			}
		}
	}
	for name := range raw {
		if path.Ext(name) == ".js" && !strings.HasPrefix(name, "vendor/") && !used[name] && name != "theme.js" {
			t.Errorf("%s is imported by nothing", name)
		}
	}
}

var assetPath = regexp.MustCompile(`assets/([0-9a-f]{16})/page\.js`)

func TestAssetsAreKeptForEverAndTheShellIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	shell := s.ask(http.MethodGet, "/", "", nil)
	match := assetPath.FindStringSubmatch(shell.body)
	if shell.code != http.StatusOK || match == nil || shell.header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("%d %v\n%s", shell.code, shell.header, shell.body)
	}
	again := s.ask(http.MethodGet, "/", "", func(r *http.Request) { r.Header.Set("If-None-Match", shell.header.Get("ETag")) })
	if again.code != http.StatusNotModified || again.body != "" {
		t.Errorf("asked again: %d", again.code)
	}
	script := s.ask(http.MethodGet, "/"+match[0], "", nil) // net/http asks for gzip and unpacks it
	if script.code != http.StatusOK || !strings.Contains(script.header.Get("Cache-Control"), "immutable") ||
		script.header.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.Contains(script.body, "export const modules = {") {
		t.Errorf("the script: %d %v", script.code, script.header)
	}
	zipped := s.ask(http.MethodGet, "/"+match[0], "", func(r *http.Request) { r.Header.Set("Accept-Encoding", "br, gzip;q=0.8") })
	if zipped.header.Get("Content-Encoding") != "gzip" || len(zipped.body) >= len(script.body) {
		t.Errorf("with gzip: %v, %d bytes", zipped.header, len(zipped.body))
	}
	plain := s.ask(http.MethodGet, "/"+match[0], "", func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip;q=0") })
	if plain.header.Get("Content-Encoding") != "" || plain.body != script.body {
		t.Errorf("without gzip: %v", plain.header)
	}
	old := strings.Replace(match[0], match[1], "0123456789abcdef", 1)
	for _, missing := range []string{"/" + old, "/assets/" + match[1] + "/nothing.js", "/nothing"} {
		if got := s.ask(http.MethodGet, missing, "", nil); got.code != http.StatusNotFound {
			t.Errorf("%s: %d", missing, got.code)
		}
	}
	for _, absolute := range []string{`src="/`, `href="/`} {
		if strings.Contains(shell.body, absolute) {
			t.Errorf("the shell has an absolute path (%s), which breaks behind a proxy", absolute)
		}
	}
}

func TestEveryAnswerSaysWhatThePageMayDo(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("look:look-secret"))})
	for _, path := range []string{"/", "/login", "/live", "/nothing", "/api/v1/hosts", "/files/a/b/c.png"} {
		h := s.ask(http.MethodGet, path, "", nil).header
		policy := strings.Split(h.Get("Content-Security-Policy"), "; ")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
			"require-trusted-types-for 'script'",
		} {
			if !slices.Contains(policy, want) {
				t.Errorf("%s: no %s in %v", path, want, policy)
			}
		}
		if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
	}
}
