package comfysim

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// features is the answer to /features and to a first feature_flags message.
func features() map[string]any {
	return map[string]any{
		"supports_preview_metadata": true, "supports_model_type_tags": true, "max_upload_size": maxBody,
		"extension": map[string]any{"manager": map[string]any{"supports_v4": true}}, "node_replacements": true, "assets": false,
	}
}

// handleSocket serves GET /ws until the connection ends. The first frame is always status with the sid.
func (p *process) handleSocket(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		plain(w, http.StatusBadRequest, "No WebSocket UPGRADE hdr: None\n Can \"Upgrade\" only to \"WebSocket\".")
		return
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, EnableCompression: true}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	defer conn.Close()
	conn.SetReadLimit(4 << 20)
	sid := r.URL.Query().Get("clientId")
	if sid == "" {
		sid = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	s := &socket{conn: conn}
	p.greet(s, sid)
	p.srv.changed()
	p.readSocket(s, sid)
	p.hub.mu.Lock()
	delete(p.hub.sockets, sid) // also when a newer socket has it by now, as in ComfyUI
	p.hub.open--
	p.hub.mu.Unlock()
	p.srv.changed()
}

// greet registers the socket and writes its first frames before the publisher can.
func (p *process) greet(s *socket, sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := p.hub
	h.mu.Lock()
	h.sockets[sid] = s
	h.open++
	node := ""
	if h.client != nil && *h.client == sid {
		node = h.lastNode
	}
	h.mu.Unlock()
	_ = s.conn.WriteMessage(websocket.TextMessage, encodeEvent("status", map[string]any{"status": p.queueInfo(), "sid": sid}))
	if node != "" {
		_ = s.conn.WriteMessage(websocket.TextMessage, encodeEvent("executing", map[string]any{"node": node}))
	}
}

// readSocket reads until the peer is gone. Only feature_flags as the first JSON message means anything.
func (p *process) readSocket(s *socket, sid string) {
	first := true
	for {
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		var m struct {
			Type string
			Data struct {
				Previews bool `json:"supports_preview_metadata"`
			}
		}
		if kind != websocket.TextMessage || !first || json.Unmarshal(data, &m) != nil {
			continue
		}
		first = false
		if m.Type != "feature_flags" {
			continue
		}
		p.hub.mu.Lock()
		s.previews = m.Data.Previews
		p.hub.mu.Unlock()
		p.hub.send(&sid, "feature_flags", features())
	}
}
