package comfy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Frame is one message of the websocket about a prompt, as ComfyUI sent it.
type Frame struct {
	Binary  bool
	Picture bool   // of a node that hands its pictures out in this way only
	Missing int    // messages before it that were dropped, because Run did not take them in time
	Data    []byte // belongs to the receiver
}

const (
	// statePause is the shortest time between two progress_state, which repeats all nodes that have begun with every tick.
	statePause = 200 * time.Millisecond
	// relayRoom bounds the frames that wait for Run, pictureRoom the same when the next one is a picture.
	relayRoom   = 32 << 20
	pictureRoom = 512 << 20
)

// relay collects the frames of one prompt until Run passes them on. The lock of its tracker guards it.
type relay struct {
	frames  []Frame
	size    int
	missing int       // since the newest of frames
	state   []byte    // the newest progress_state, when it came too soon after the one before
	sent    time.Time // when the newest progress_state was put into frames
}

func (y *relay) add(f Frame) {
	room := relayRoom
	if f.Picture {
		room = pictureRoom
	}
	if y.size+len(f.Data) > room {
		y.missing++
		return
	}
	f.Missing, y.missing = y.missing, 0
	y.frames, y.size = append(y.frames, f), y.size+len(f.Data)
}

// progress takes in a progress_state, which replaces one that still waits.
func (y *relay) progress(state []byte, now time.Time) {
	y.state = state
	if now.Sub(y.sent) >= statePause {
		y.flush(now)
	}
}

// flush puts the progress_state that waits behind the frames.
func (y *relay) flush(now time.Time) {
	if y.state != nil {
		y.add(Frame{Data: y.state})
		y.state, y.sent = nil, now
	}
}

// take gives the frames that have come since it was called last; none without a relay.
func (y *relay) take(now time.Time) []Frame {
	if y == nil {
		return nil
	}
	if now.Sub(y.sent) >= statePause {
		y.flush(now)
	}
	frames := y.frames
	y.frames, y.size = nil, 0
	return frames
}

// due is when a progress_state that waits may be sent, later when none does.
func (t *tracker) due(later time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.relay == nil || t.relay.state == nil {
		return later
	}
	return earliest(later, t.relay.sent.Add(statePause))
}

// pass gives a message of the socket to the run that it is about, if that run wants its frames.
func (h *Host) pass(kind int, data []byte, now time.Time) {
	if kind == websocket.BinaryMessage {
		h.passBinary(data)
		return
	}
	l := labelOf(data)
	if l.common() {
		return
	}
	t := h.trackOf(l.prompt)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	y := t.relay
	switch {
	case y == nil:
		return
	case l.kind == "progress_state":
		y.progress(data, now)
	case l.ends():
		y.flush(now)
	case l.kind == "executed":
		y.flush(now)
		fallthrough
	default:
		y.add(Frame{Data: data})
	}
	t.poke()
}

func (h *Host) passBinary(data []byte) {
	p, _ := parseBinary(data)
	t := h.trackOf(p.prompt)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.relay == nil {
		return
	}
	node := t.node
	if p.node != "" {
		node = p.node
	}
	t.relay.add(Frame{Binary: true, Picture: sends(t.class(node)), Data: data})
	t.poke()
}

// trackOf is the run of a prompt. A message that names none belongs to the prompt that runs, if there is only one.
func (h *Host) trackOf(prompt string) *tracker {
	if prompt != "" {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.tracks[prompt]
	}
	var found *tracker
	for _, t := range h.all() {
		if t.running() {
			if found != nil && found != t {
				return nil
			}
			found = t
		}
	}
	return found
}

// label is what is read of a message to find out whose it is.
type label struct {
	kind   string
	prompt string
	atEnd  bool // executing without a node
}

// common reports whether a message concerns no prompt.
func (l label) common() bool {
	return slices.Contains([]string{"", "status", "feature_flags", "logs"}, l.kind) || strings.HasPrefix(l.kind, "assets.")
}

// ends reports whether a message ends a run.
func (l label) ends() bool {
	return slices.Contains([]string{"execution_success", "execution_error", "execution_interrupted"}, l.kind) || l.kind == "executing" && l.atEnd
}

// labelOf reads a text message. Of a progress_state, which may be large, only the beginning is read.
func labelOf(data []byte) label {
	head := data[:min(len(data), 200)]
	if bytes.Contains(head[:min(len(head), 40)], []byte(bulky)) {
		if _, rest, found := bytes.Cut(head, []byte(`"prompt_id":`)); found {
			rest = bytes.TrimLeft(rest, " ")
			if parts := bytes.SplitN(rest, []byte(`"`), 3); len(parts) == 3 {
				return label{kind: "progress_state", prompt: string(parts[1])}
			}
		}
	}
	var message struct {
		Type text            `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if decode(data, &message) != nil {
		return label{}
	}
	var d struct {
		Prompt text  `json:"prompt_id"`
		Node   *text `json:"node"`
	}
	_ = decode(message.Data, &d) // a message of a custom node may have anything
	return label{kind: string(message.Type), prompt: string(d.Prompt), atEnd: d.Node == nil}
}
