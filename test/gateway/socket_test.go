package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// socket is a client's websocket and what came on it.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
	sid  string
	got  []message // all that came, in order
}

// message is a frame, as a client reads it.
type message struct {
	binary bool
	raw    []byte
	kind   string
	data   map[string]any
}

// of reports whether a message concerns a prompt.
func (m *message) of(id string) bool { return m.data["prompt_id"] == id }

// socket opens a websocket and reads the first frame.
func (f *face) socket(client string) *socket {
	f.t.Helper()
	url := strings.Replace(f.base, "http", "ws", 1) + "/ws?clientId=" + client
	conn, response, err := websocket.DefaultDialer.Dial(url, http.Header{"Authorization": {"Bearer " + f.key}})
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
	f.t.Cleanup(func() { _ = conn.Close() })
	s := &socket{t: f.t, conn: conn}
	first := s.next()
	s.sid, _ = first.data["sid"].(string)
	if first.kind != "status" || s.sid == "" || client != "" && s.sid != client {
		f.t.Fatalf("the first frame is %s", first.raw)
	}
	return s
}

func (s *socket) next() *message {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		s.t.Fatal(err)
	}
	kind, raw, err := s.conn.ReadMessage()
	if err != nil {
		s.t.Fatalf("%v; before that came %s", err, s.story(""))
	}
	m := message{binary: kind == websocket.BinaryMessage, raw: raw}
	if !m.binary {
		if !strings.HasPrefix(string(raw), `{"type":`) {
			s.t.Errorf("a text does not begin as SwarmUI reads it: %.100s", raw)
		}
		var text struct {
			Type string         `json:"type"`
			Data map[string]any `json:"data"`
		}
		if err := json.Unmarshal(raw, &text); err != nil {
			s.t.Fatalf("%v: %.300s", err, raw)
		}
		m.kind, m.data = text.Type, text.Data
	}
	s.got = append(s.got, m)
	return &s.got[len(s.got)-1]
}

// until reads until a message of a kind about a prompt.
func (s *socket) until(kind, id string) *message {
	s.t.Helper()
	for {
		if m := s.next(); m.kind == kind && m.of(id) {
			return m
		}
	}
}

// end reads until a prompt has ended, as ComfyUI's own examples do.
func (s *socket) end(id string) {
	s.t.Helper()
	for {
		if m := s.next(); m.kind == "executing" && m.data["node"] == nil && m.of(id) {
			return
		}
	}
}

// story is what came about a prompt, without progress, previews and status; the executing of a node has the node's id.
func (s *socket) story(id string) string {
	var kinds []string
	for _, m := range s.got {
		switch {
		case m.binary || m.kind == "status" || strings.HasPrefix(m.kind, "progress") || id != "" && !m.of(id):
		case m.kind == "executing" && m.data["node"] != nil, m.kind == "executed":
			kinds = append(kinds, fmt.Sprint(m.kind, ":", m.data["node"]))
		default:
			kinds = append(kinds, m.kind)
		}
	}
	return strings.Join(kinds, " ")
}

func (s *socket) count(is func(*message) bool) int {
	n := 0
	for i := range s.got {
		if is(&s.got[i]) {
			n++
		}
	}
	return n
}

func TestASocketReceivesThePromptInComfyUIsOrder(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("tab")
	id := f.prompt(map[string]any{"prompt": slow(0.2, 2), "client_id": "tab"})
	s.end(id)
	if got, want := s.story(id), "execution_start execution_cached executing:1 executing:3 executing:2 executed:2 execution_success executing"; got != want {
		t.Errorf("came\n%s, want\n%s", got, want)
	}
	if n := s.count(func(m *message) bool { return m.binary }); n == 0 {
		t.Error("no preview came")
	}
	for _, m := range s.got {
		if m.binary && string(m.raw[:8]) != "\x00\x00\x00\x01\x00\x00\x00\x01" {
			t.Errorf("a client without flags received the binary message %x…", m.raw[:8])
		}
	}
	last := s.got[len(s.got)-3:]
	if kinds := []string{last[0].kind, last[1].kind, last[2].kind}; !slices.Equal(kinds, []string{"execution_success", "status", "executing"}) {
		t.Errorf("the end is %v", kinds)
	}
	if entry := f.get("/history/" + id)[id]; entry == nil {
		t.Error("the history has no entry at the end")
	}
}
