package comfy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

const (
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 5 * time.Second
	pongTimeout      = 2 * time.Second
	// maxFrame bounds one message; ComfyUI itself has no bound, 8 MB were seen.
	maxFrame   = 256 << 20
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// features asks for previews that name their prompt (ComfyUI 0.3.45 and newer).
const features = `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`

// session is one websocket. Its client id is never used again: when a second socket has the id of a first one that closes
// late, the server deletes the id, and the second one never receives events.
type session struct {
	clientID string
	conn     *websocket.Conn
	statuses atomic.Int64 // status messages so far
	silent   atomic.Bool  // closed by this process because nothing came over it

	pings sync.Map      // by payload, of pings whose answers are waited for: chan struct{}
	over  chan struct{} // closed when its end is counted
}

// answers sends a ping and waits for the answer, or until the end of the socket is counted, for at most pongTimeout. True means that
// the process that accepted the socket still runs. An open socket alone does not: a ComfyUI that was restarted quickly may answer
// requests before the end of the socket to its former process is noticed.
func (s *session) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pongTimeout)
	defer cancel()
	payload, answered := uuid.NewString(), make(chan struct{})
	s.pings.Store(payload, answered)
	defer s.pings.Delete(payload)
	_ = s.conn.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(pongTimeout)) // what cannot be sent is not answered
	select {
	case <-answered:
		return true
	case <-s.over:
	case <-ctx.Done():
	}
	return false
}

// onPong takes in the answer to a ping.
func (s *session) onPong(payload string) {
	if answered, waited := s.pings.LoadAndDelete(payload); waited {
		close(answered.(chan struct{}))
	}
}

// Listen keeps the host's websocket open until ctx is done, and returns its cause. It reconnects with a backoff of 0.1 to
// 5 s and jitter. Without it Run works too, by polling.
func (h *Host) Listen(ctx context.Context) error {
	h.mu.Lock()
	if h.listening {
		h.mu.Unlock()
		return errors.New("listen to " + h.String() + ": its websocket is open already")
	}
	h.listening = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.listening = false
		h.mu.Unlock()
	}()
	backoff := minBackoff
	for {
		opened, err := h.listenOnce(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if opened {
			backoff = minBackoff
		}
		h.log.Debug("websocket is down", "error", err, "retry_in", backoff)
		if !pause(ctx, backoff/2+rand.N(backoff)) {
			return context.Cause(ctx)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listenOnce opens one socket and reads it to its end.
func (h *Host) listenOnce(ctx context.Context) (opened bool, err error) {
	s, err := h.dial(ctx)
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	done := make(chan struct{})
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		h.pingLoop(s, done)
	}()
	h.open(s)
	err = h.read(s)
	close(done)
	s.conn.Close()
	<-pinged
	h.shut(s, ctx.Err() != nil)
	return true, err
}

func (h *Host) dial(ctx context.Context) (*session, error) {
	s := &session{clientID: strings.ReplaceAll(uuid.NewString(), "-", ""), over: make(chan struct{})}
	address := h.base
	address.Scheme = map[string]string{"http": "ws", "https": "wss"}[h.base.Scheme]
	address.Path = strings.TrimSuffix(address.Path, "/") + "/ws"
	address.RawQuery = url.Values{"clientId": {s.clientID}}.Encode()
	header := http.Header{}
	if h.user != nil {
		password, _ := h.user.Password()
		request := http.Request{Header: header}
		request.SetBasicAuth(h.user.Username(), password)
	}
	conn, response, err := h.dialer.DialContext(ctx, address.String(), header)
	if err != nil {
		if response != nil {
			return nil, fmt.Errorf("open websocket to %s: HTTP status %d: %w", h, response.StatusCode, err)
		}
		return nil, fmt.Errorf("open websocket to %s: %s", h, why(err))
	}
	s.conn = conn
	conn.SetReadLimit(maxFrame)
	timeout := 2 * h.options.PingInterval
	conn.SetReadDeadline(time.Now().Add(timeout))
	conn.SetPongHandler(func(payload string) error {
		s.onPong(payload)
		return conn.SetReadDeadline(time.Now().Add(timeout))
	})
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := conn.WriteMessage(websocket.TextMessage, []byte(features)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("send the features to %s over the websocket: %w", h, err)
	}
	return s, nil
}

// pingLoop pings the host: the answers are the only messages of an idle ComfyUI.
func (h *Host) pingLoop(s *session, done <-chan struct{}) {
	ticker := time.NewTicker(h.options.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				s.conn.Close()
			}
		}
	}
}

// open makes s the host's socket. A new process may have newer routes, and
// whatever ended while no socket was open has to be looked up.
func (h *Host) open(s *session) {
	h.oldJobs.Store(false)
	h.oldCancel.Store(false)
	h.mu.Lock()
	h.session = s
	h.mu.Unlock()
	h.lookAll()
}

// shut ends the use of s. It closes the idle HTTP connections too, since the process behind them may have ended.
func (h *Host) shut(s *session, ours bool) {
	h.client.CloseIdleConnections()
	h.mu.Lock()
	h.session = nil
	if !ours && !s.silent.Load() {
		h.lost++
	}
	state := h.state
	state.Connected = false
	h.setState(state)
	h.mu.Unlock()
	close(s.over)
	h.lookAll()
}

func (h *Host) current() *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.session
}

// reopen closes a socket that is open and over which nothing comes, so that Listen opens another.
func (h *Host) reopen(s *session) {
	if s.silent.CompareAndSwap(false, true) {
		h.log.Warn("no events come over the websocket: opening another one")
		s.conn.Close()
	}
}

func (h *Host) lookAll() {
	for _, t := range h.all() {
		t.look()
	}
}

func (h *Host) all() []*tracker {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*tracker, 0, len(h.tracks))
	for _, t := range h.tracks {
		all = append(all, t)
	}
	return all
}

// read hands out messages until the socket ends.
func (h *Host) read(s *session) error {
	for {
		kind, frame, err := s.conn.ReadMessage()
		if err != nil {
			return err
		}
		s.conn.SetReadDeadline(time.Now().Add(2 * h.options.PingInterval))
		now := time.Now()
		if h.relays.Load() > 0 {
			h.pass(kind, frame, now)
		}
		if kind == websocket.BinaryMessage {
			if p, ok := parseBinary(frame); ok {
				h.showPreview(p, now)
			}
			continue
		}
		if e, ok := parseText(frame); ok {
			h.handle(s, e, now)
		}
	}
}

func (h *Host) handle(s *session, e event, now time.Time) {
	if e.kind == "status" {
		s.statuses.Add(1)
		h.mu.Lock()
		h.setState(State{Connected: true, QueueRemaining: e.remaining})
		h.mu.Unlock()
		for _, t := range h.all() {
			if !t.receivesFrom(s) {
				t.look() // its own events do not come, but a status comes when any prompt has ended
			}
		}
		return
	}
	h.mu.Lock()
	t := h.tracks[e.prompt]
	h.worker.see(e, h.lost)
	h.mu.Unlock()
	if t != nil {
		t.see(e, now)
	}
}

// showPreview gives a picture to its prompt. One that names none belongs to the prompt that runs, if there is only one.
func (h *Host) showPreview(p preview, now time.Time) {
	if t := h.trackOf(p.prompt); t != nil {
		t.show(p, now)
	}
}
