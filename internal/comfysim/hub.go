package comfysim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// nan in a message becomes a bare NaN on the wire, as Python's json writes it.
const nan = "\x00NaN"

// encode is json.Marshal that can write NaN.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return []byte(`null`)
	}
	return bytes.ReplaceAll(data, []byte(`"\u0000NaN"`), []byte(`NaN`))
}

// message is one frame on its way: to one session, or to all when to is nil.
type message struct {
	to     *string
	binary bool
	data   []byte
}

// hub is ComfyUI's websocket side: sessions by client id, and one publisher that writes to them one after another, so that a client
// that stops reading stalls all others. Each client id has at most one socket, and a socket that closes removes its id, also when a
// newer socket has it by then; that one stays open and gets nothing more (it is deaf).
type hub struct {
	wake chan struct{} // cap 1: something was queued

	mu       sync.Mutex
	sockets  map[string]*socket
	open     int       // open sockets, deaf ones included
	queued   []message // unbounded, as in ComfyUI
	client   *string   // client id of the latest run
	lastNode string    // node executing now; "" when none
	stalled  time.Time // the publisher does not write before this time
}

func newHub() *hub {
	return &hub{wake: make(chan struct{}, 1), sockets: map[string]*socket{}}
}

func (h *hub) queue(m message) {
	h.mu.Lock()
	h.queued = append(h.queued, m)
	h.mu.Unlock()
	h.poke()
}

func (h *hub) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// send queues an event for one session, or for all when to is nil.
func (h *hub) send(to *string, event string, data any) {
	h.queue(message{to: to, data: encodeEvent(event, data)})
}

// encodeEvent writes an event as ComfyUI does: some clients look at its first bytes, {"type":, only.
func encodeEvent(event string, data any) []byte {
	return encode(struct {
		Type string `json:"type"`
		Data any    `json:"data"`
	}{event, data})
}

// publishLoop writes queued messages until ctx ends.
func (h *hub) publishLoop(ctx context.Context) {
	var resume <-chan time.Time // set while stalled
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-resume:
		}
		batch, pause := h.take()
		resume = nil
		if pause > 0 {
			resume = time.After(pause)
		}
		for _, m := range batch {
			for _, s := range h.receivers(m.to) {
				s.write(m)
			}
		}
	}
}

func (h *hub) take() ([]message, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pause := time.Until(h.stalled); pause > 0 && len(h.queued) > 0 {
		return nil, pause
	}
	batch := h.queued
	h.queued = nil
	return batch, 0
}

func (h *hub) receivers(to *string) []*socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	if to == nil {
		return slices.Collect(maps.Values(h.sockets))
	}
	if s, ok := h.sockets[*to]; ok {
		return []*socket{s}
	}
	return nil
}

// stall keeps the publisher from writing for d.
func (h *hub) stall(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stalled = time.Now().Add(d)
}

// deafen removes a session whose socket stays open; nil removes all.
func (h *hub) deafen(client *string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if client == nil {
		clear(h.sockets)
		return
	}
	delete(h.sockets, *client)
}

func (h *hub) connected() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// begin notes the client of the run, as ComfyUI does at execution_start. The client id stays after the run.
func (h *hub) begin(client *string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client, h.lastNode = client, ""
}

func (h *hub) at(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastNode = node
}

// known reports whether a client id has a socket, and whether that socket gets preview metadata.
func (h *hub) known(client *string) (connected, previews bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if client == nil {
		return len(h.sockets) > 0, false
	}
	s, ok := h.sockets[*client]
	return ok, ok && s.previews
}

// socket is one connection. mu serialises writers: the publisher and the first frames.
type socket struct {
	mu       sync.Mutex
	conn     *websocket.Conn
	previews bool // guarded by hub.mu
}

// write drops the message when the socket is gone; its reader notices and removes it.
func (s *socket) write(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := websocket.TextMessage
	if m.binary {
		kind = websocket.BinaryMessage
	}
	_ = s.conn.WriteMessage(kind, m.data)
}

// previewFrame is a type 1 frame, or type 4 with metadata.
func previewFrame(image []byte, format string, metadata []byte) []byte {
	if metadata == nil {
		kind := uint32(1)
		if format == "PNG" {
			kind = 2
		}
		out := binary.BigEndian.AppendUint32(nil, 1)
		return append(binary.BigEndian.AppendUint32(out, kind), image...)
	}
	out := binary.BigEndian.AppendUint32(nil, 4)
	out = binary.BigEndian.AppendUint32(out, uint32(len(metadata)))
	return append(append(out, metadata...), image...)
}
