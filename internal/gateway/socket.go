package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	largestMessage = 4 << 20 // of a client, as ComfyUI takes it
	writeTimeout   = 20 * time.Second
	pingEvery      = 30 * time.Second

	// A socket whose client reads slowly gets no previews and no progress when this much waits for it; it is closed when what it must
	// not miss takes more room than that.
	laggingFrames = 64
	laggingBytes  = 8 << 20
	mostFrames    = 8192
	mostBytes     = 256 << 20
)

// socket is one websocket. Frames wait in its queue until its writer has sent them, so no client delays another.
type socket struct {
	conn *websocket.Conn
	sid  string
	wake chan struct{} // cap 1: something was queued, or the socket was closed

	metrics *metrics

	mu       sync.Mutex // guards all below
	waiting  []frame
	bytes    int
	closing  int    // the code with which the socket is to be closed; 0: it is open
	metadata bool   // it takes previews with metadata
	page     bool   // it is ComfyUI's own page
	named    job.ID // the prompt of the last executing
	told     int    // the last status: how many prompts have not ended
}

var upgrader = websocket.Upgrader{
	ReadBufferSize: 4 << 10, WriteBufferSize: 32 << 10, WriteBufferPool: &sync.Pool{},
	CheckOrigin: func(*http.Request) bool { return true }, // checkOrigin has looked at every request
}

// getSocket serves a websocket until its client or the gateway ends it.
func (g *Gateway) getSocket(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return &failed{http.StatusBadRequest, "no_websocket", "this path is a websocket: connect to it with ws://"}
	}
	sid := r.URL.Query().Get("clientId")
	if len(sid) > longestClientID {
		return malformed("clientId is too long: send at most 256 characters")
	}
	if sid == "" {
		sid = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	if err := of.rows.refresh(r.Context()); err != nil {
		return err
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has answered
	}
	s := &socket{conn: conn, sid: sid, wake: make(chan struct{}, 1), metrics: g.metrics}
	g.metrics.sockets.Inc()
	defer g.metrics.sockets.Dec()
	if of.hub.open(s) {
		defer of.hub.leave(s)
	} else {
		s.close(websocket.CloseGoingAway)
	}
	var both sync.WaitGroup
	both.Go(s.writeLoop)
	s.readLoop()
	s.close(websocket.CloseNormalClosure)
	both.Wait()
	return nil
}

// push queues a frame and never blocks. A frame that a slow client can do without is dropped when it lags behind.
func (s *socket) push(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.plain != nil && !s.metadata {
		f.data = f.plain
	}
	f.plain = nil
	switch lagging := len(s.waiting) >= laggingFrames || s.bytes >= laggingBytes; {
	case s.closing != 0:
		return
	case f.droppable && lagging:
		s.metrics.dropped.Inc()
		return
	case len(s.waiting) >= mostFrames || s.bytes+len(f.data) > mostBytes && len(s.waiting) > 0:
		s.closing = websocket.ClosePolicyViolation
		s.metrics.slow.Inc()
	default:
		s.name(&f)
		s.waiting, s.bytes = append(s.waiting, f), s.bytes+len(f.data)
		s.metrics.relayed.Inc()
	}
	s.poke()
}

// pushStatus queues how many prompts have not ended; sid is only in the first of a socket.
func (s *socket) pushStatus(remaining int, sid string) {
	s.push(remainingFrame(remaining, sid))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = remaining
}

// knows reports whether the client was told last that so many prompts have not ended. ComfyUI's page reads all its lists after each time.
func (s *socket) knows(remaining int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told == remaining
}

// name queues an executing before a binary message when the last one was of another prompt: a client without metadata takes a picture for one of
// the node that was named last, and two of its prompts may run at the same time. s.mu must be held.
func (s *socket) name(f *frame) {
	switch {
	case f.names != "":
		s.named = f.names
	case f.binary && !s.metadata && f.from.node != "" && f.from.id != s.named:
		s.named = f.from.id
		s.waiting = append(s.waiting, nodeFrame(f.from.id, f.from.node))
	}
}

// close has the writer send what waits and close the socket.
func (s *socket) close(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == 0 {
		s.closing = code
	}
	s.poke()
}

func (s *socket) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take gives what waits, and the code when the socket is to be closed after that.
func (s *socket) take() ([]frame, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.waiting
	s.waiting, s.bytes = nil, 0
	return waiting, s.closing
}

// writeLoop sends what is queued, and a ping now and then for proxies that close silent connections. No pong is required: a script
// that reads nothing between two prompts sends none.
func (s *socket) writeLoop() {
	defer s.conn.Close()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-s.wake:
		case <-ping.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		}
		waiting, closing := s.take()
		for _, f := range waiting {
			if s.write(f) != nil {
				return
			}
		}
		if closing != 0 {
			_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closing, ""), time.Now().Add(writeTimeout))
			return
		}
	}
}

func (s *socket) write(f frame) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	kind := websocket.TextMessage
	if f.binary {
		kind = websocket.BinaryMessage
	}
	s.metrics.framed.Add(float64(len(f.data)))
	return s.conn.WriteMessage(kind, f.data)
}

// readLoop reads until the client has gone. Of all that it sends, its first JSON text may say what it takes; the rest is ignored.
func (s *socket) readLoop() {
	s.conn.SetReadLimit(largestMessage)
	for first := true; ; {
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage || !first || !json.Valid(data) {
			continue
		}
		first = false
		s.flags(data)
	}
}

// flags reads what a client takes and answers what the gateway has.
func (s *socket) flags(data []byte) {
	var m struct {
		Type string                     `json:"type"`
		Data map[string]json.RawMessage `json:"data"`
	}
	if json.Unmarshal(data, &m) != nil || m.Type != "feature_flags" {
		return
	}
	s.mu.Lock()
	s.metadata = string(m.Data["supports_preview_metadata"]) == "true"
	s.page = string(m.Data["supports_manager_v4_ui"]) == "true"
	s.mu.Unlock()
	s.push(textFrame("feature_flags", features()))
}

// isPage reports whether the client is ComfyUI's own page.
func (s *socket) isPage() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.page
}

// features are what a gateway has of what clients ask for: nothing that would have a page show an empty panel.
func features() map[string]any {
	return map[string]any{
		"supports_preview_metadata": true, "max_upload_size": int64(largestUpload), "assets": false, "node_replacements": true,
		"supports_progress_text_metadata": false,
	}
}
