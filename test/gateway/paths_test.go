package gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestPathsOfUserDataAndUploadsStayInTheirFolder(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.accepts(http.MethodPost, "/userdata/mine.json", "{}")
	for _, path := range []string{"..%2Fx", "a%2F..%2F..%2Fx", "%2Fetc%2Fpasswd", "..%5Cx", "%2E%2E", "a%00b", "a%0Ab", "C%3A%2Fx"} {
		for method, where := range map[string]string{
			http.MethodGet: "/userdata/" + path, http.MethodDelete: "/userdata/" + path, http.MethodPost: "/userdata/mine.json/move/" + path,
		} {
			if a := f.do(method, where, "{}"); a.status < 400 || a.status >= 500 {
				t.Errorf("%s %s: %d %s", method, where, a.status, a.body)
			}
		}
		if a := f.do(http.MethodPost, "/userdata/"+path, "{}"); a.status < 400 || a.status >= 500 {
			t.Errorf("POST %s: %d %s", path, a.status, a.body)
		}
	}
	for name, want := range map[string]string{
		"../x.png": `{"name":"x.png","subfolder":"","type":"input"}`, "/x.png": `{"name":"x.png","subfolder":"","type":"input"}`, `..\x.png`: "", "..": "", "": "",
	} {
		a := f.upload("/upload/image", name, []byte("x"))
		if want == "" && a.status != http.StatusBadRequest || want != "" && strings.TrimSpace(string(a.body)) != want {
			t.Errorf("an upload named %q: %d %s", name, a.status, a.body)
		}
	}
	if a := f.do(http.MethodGet, "/userdata/mine.json", nil); a.status != http.StatusOK {
		t.Errorf("the file is gone: %d", a.status)
	}
}

func TestFilesThatAreNotReadDelayNobody(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.upload("/upload/image", "large.png", bytes.Repeat([]byte("x"), 8<<20))
	addr := strings.TrimPrefix(f.base, "http://")
	for range 12 {
		conn, err := net.DialTimeout("tcp", addr, testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "GET /view?type=input&filename=large.png HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", addr, f.key); err != nil {
			t.Fatal(err)
		}
	}
	s := f.socket("reads")
	s.end(f.prompt(map[string]any{"prompt": picture(83), "client_id": "reads"}))
}

func TestAMessageOfAClientThatIsTooLargeClosesItsSocketAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	large, other := f.socket("same"), f.socket("same")
	_ = large.conn.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte(" "), 5<<20)) // the gateway may close before it has read all
	_ = large.conn.SetReadDeadline(time.Now().Add(testTimeout))
	for {
		if _, _, err := large.conn.ReadMessage(); err != nil {
			if slow, is := errors.AsType[net.Error](err); is && slow.Timeout() {
				t.Error("the socket is still open")
			}
			break
		}
	}
	other.end(f.prompt(map[string]any{"prompt": picture(84), "client_id": "same"}))
}
