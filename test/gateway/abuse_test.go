package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Bad input gets a clear answer, nothing is lost by it, and no other client waits for it.

// blank is a reader of n spaces.
func blank(n int64) io.Reader { return io.LimitReader(spaces{}, n) }

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestSixtyFourMebibytesOfNothingAreRefused(t *testing.T) {
	t.Parallel()
	f := open(t)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	if _, err := io.Copy(w, blank(65<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path     string
		body     io.Reader
		encoding string
		want     int
	}{
		"Prompt":         {"/prompt", io.MultiReader(strings.NewReader("{"), blank(64<<20)), "", http.StatusRequestEntityTooLarge},
		"ZippedPrompt":   {"/prompt", &bomb, "gzip", http.StatusRequestEntityTooLarge},
		"NotZipped":      {"/prompt", strings.NewReader("{}"), "gzip", http.StatusBadRequest},
		"Queue":          {"/queue", blank(5 << 20), "", http.StatusRequestEntityTooLarge},
		"Settings":       {"/settings", blank(5 << 20), "", http.StatusRequestEntityTooLarge},
		"UserFile":       {"/userdata/x.json", blank(17 << 20), "", http.StatusRequestEntityTooLarge},
		"UploadOfNoForm": {"/upload/image", blank(1 << 20), "", http.StatusBadRequest},
		"V2Job":          {"/api/v2/jobs", io.MultiReader(strings.NewReader("{"), blank(70<<20)), "", http.StatusRequestEntityTooLarge},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.base+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.key)
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, _ := io.ReadAll(response.Body) // a connection may end behind the answer
		_ = response.Body.Close()
		if response.StatusCode != c.want || !bytes.Contains(text, []byte(`"message"`)) {
			t.Errorf("%s: %d %.200s, want %d", name, response.StatusCode, text, c.want)
		}
	}
	f.ended(f.prompt(map[string]any{"prompt": picture(80)}))
}

func TestAThousandHalfOpenConnectionsDelayNobody(t *testing.T) {
	t.Parallel()
	f := open(t)
	addr := strings.TrimPrefix(f.base, "http://")
	half := []string{"", "GET /queue HT", "POST /prompt HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 100000\r\nAuthorization: Bearer " + f.key + "\r\n\r\n{",
		"GET /ws?clientId=x HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\n"}
	for i := range 1000 {
		conn, err := net.DialTimeout("tcp", addr, testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write([]byte(half[i%len(half)])); err != nil {
			t.Fatal(err)
		}
	}
	s := f.socket("whole")
	s.end(f.prompt(map[string]any{"prompt": picture(81), "client_id": "whole"}))
}

func TestASocketThatIsNotReadDelaysNoOther(t *testing.T) {
	t.Parallel()
	f := open(t)
	lazy, busy := f.socket("same"), f.socket("same")
	id := f.prompt(map[string]any{"prompt": endless(82), "client_id": "same"})
	busy.until("progress", id)
	previews := make([]byte, 256<<10)
	copy(previews, "\x00\x00\x00\x01\x00\x00\x00\x01")
	for n := range 400 { // 100 MiB, more than the buffers of a connection and of a socket take
		if err := shared.q.PublishFrame(f.tenant, &queue.Frame{Job: job.ID(id), Attempt: 1, Number: uint64(1000 + n), Binary: true, Data: previews}); err != nil {
			t.Fatal(err)
		}
	}
	f.accepts(http.MethodPost, "/interrupt", map[string]any{"prompt_id": id})
	busy.end(id)
	lazy.end(id) // the end was kept for it; most of the previews were not
	if n := lazy.count(func(m *message) bool { return len(m.raw) == len(previews) }); n == 0 || n == 400 {
		t.Errorf("who read nothing received %d of 400 previews", n)
	}
}

func TestTooManyWordsForAKeyAreNoKey(t *testing.T) {
	t.Parallel()
	f := open(t)
	for name, path := range map[string]string{
		"None": "/queue", "Wrong": "/k/wrong-key-1234/queue", "Escaped": "/k/" + strings.ReplaceAll(f.key, "-", "%2D") + "x/queue", "Long": "/k/" + strings.Repeat("x", 4000) + "/queue",
	} {
		bare := &face{t: t, base: f.base}
		if a := bare.do(http.MethodGet, path, nil, "Authorization", ""); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+"/queue", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Junk", strings.Repeat("x", 1<<20))
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 1 MiB: %d", response.StatusCode)
	}
}
