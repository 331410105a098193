package comfy

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"strings"
)

// event is one text message of the websocket, as far as it is used.
type event struct {
	kind      string
	prompt    string
	node      string // executing, progress, executed; the node as the user knows it
	end       bool   // executing with node null: the prompt left the worker
	value     float64
	max       float64
	nodes     []string // execution_cached
	output    json.RawMessage
	raised    raised // execution_error
	remaining int    // status
}

// preview is one binary message that holds a picture.
type preview struct {
	prompt      string // empty in the old layout
	node        string // as the user knows it; empty in the old layout
	contentType string
	image       []byte
}

// bulky is the type of messages that are dropped unread: progress_state repeats every
// started node with every tick, O(n²) bytes in all.
const bulky = `"progress_state"`

// parseText reads one text message; ok is false for those without use.
func parseText(frame []byte) (e event, ok bool) {
	if strings.Contains(string(frame[:min(len(frame), 40)]), bulky) {
		return event{}, false
	}
	var message struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if decode(frame, &message) != nil {
		return event{}, false
	}
	e.kind = message.Type
	switch message.Type {
	case "status":
		return parseStatus(e, message.Data)
	case "execution_start", "execution_success", "execution_interrupted", "execution_cached",
		"executing", "progress", "executed":
		return parseStep(e, message.Data)
	case "execution_error":
		if decode(message.Data, &e.raised) != nil {
			return event{}, false
		}
		e.prompt = string(e.raised.Prompt)
		return e, e.prompt != ""
	}
	return event{}, false
}

func parseStatus(e event, data []byte) (event, bool) {
	var d struct {
		Status struct {
			Info struct {
				Remaining number `json:"queue_remaining"`
			} `json:"exec_info"`
		} `json:"status"`
	}
	if decode(data, &d) != nil {
		return event{}, false
	}
	e.remaining = d.Status.Info.Remaining.int()
	return e, true
}

func parseStep(e event, data []byte) (event, bool) {
	var d struct {
		Prompt  text            `json:"prompt_id"`
		Node    *text           `json:"node"`
		Display text            `json:"display_node"`
		Value   number          `json:"value"`
		Max     number          `json:"max"`
		Nodes   texts           `json:"nodes"`
		Output  json.RawMessage `json:"output"`
	}
	if decode(data, &d) != nil || d.Prompt == "" {
		return event{}, false
	}
	e.prompt, e.value, e.max, e.nodes, e.output = string(d.Prompt), float64(d.Value), float64(d.Max), d.Nodes, d.Output
	if d.Node == nil {
		e.end = e.kind == "executing"
		return e, true
	}
	e.node = string(*d.Node)
	if d.Display != "" {
		e.node = string(d.Display)
	}
	return e, true
}

// Kinds of binary messages and picture formats.
const (
	previewPlain    = 1
	previewWithMeta = 4
	formatJPEG      = 1
	formatPNG       = 2
)

// parseBinary reads one binary message; ok is false if it holds no picture.
func parseBinary(frame []byte) (p preview, ok bool) {
	if len(frame) < 8 {
		return preview{}, false
	}
	kind, second, rest := binary.BigEndian.Uint32(frame), binary.BigEndian.Uint32(frame[4:]), frame[8:]
	switch kind {
	case previewPlain:
		types := map[uint32]string{formatJPEG: "image/jpeg", formatPNG: "image/png"}
		p = preview{contentType: types[second], image: rest}
	case previewWithMeta:
		if uint64(second) > uint64(len(rest)) {
			return preview{}, false
		}
		var meta struct {
			Prompt  text `json:"prompt_id"`
			Node    text `json:"node_id"`
			Display text `json:"display_node_id"`
			Type    text `json:"image_type"`
		}
		if decode(rest[:second], &meta) != nil || meta.Prompt == "" {
			return preview{}, false
		}
		p = preview{prompt: string(meta.Prompt), node: string(cmp.Or(meta.Display, meta.Node)), contentType: string(meta.Type), image: rest[second:]}
	}
	return p, p.contentType != "" && len(p.image) > 0
}

// number is any JSON number; everything else is zero.
type number float64

func (n *number) UnmarshalJSON(data []byte) error {
	var f float64
	if json.Unmarshal(data, &f) == nil {
		*n = number(f)
	}
	return nil
}

func (n number) int() int {
	if n >= 0 && n < 1<<31 {
		return int(n)
	}
	return 0
}

// text is a JSON string; a number is its spelling, everything else empty.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
		return nil
	}
	if len(data) > 0 && (data[0] == '-' || '0' <= data[0] && data[0] <= '9') {
		*t = text(data)
	}
	return nil
}

// texts is a list of text; everything else is empty.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var list []text
	_ = json.Unmarshal(data, &list) // what is no list has none
	for _, s := range list {
		*t = append(*t, string(s))
	}
	return nil
}
