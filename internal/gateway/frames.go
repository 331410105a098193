package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// frame is a message for a websocket. A text begins with {"type": since SwarmUI takes any other for a picture, so it is never made
// from a Go map.
type frame struct {
	binary    bool
	data      []byte
	plain     []byte // in place of data for a client without supports_preview_metadata; nil: the same
	droppable bool   // a client that reads slowly can do without it
	names     job.ID // the prompt that an executing names
	from      origin // of a binary message to the prompt's own client
}

// origin is the node that a binary message comes from.
type origin struct {
	id   job.ID
	node string
}

// textFrame makes a message.
func textFrame(kind string, data any) frame {
	return frame{data: encode(struct {
		Type string `json:"type"`
		Data any    `json:"data"`
	}{kind, data})}
}

// remainingFrame says how many prompts have not ended; sid is only in the first of a socket.
func remainingFrame(remaining int, sid string) frame {
	return textFrame("status", struct {
		Status execInfo `json:"status"`
		SID    string   `json:"sid,omitempty"`
	}{execInfoOf(remaining), sid})
}

// startFrame is execution_start.
func startFrame(id job.ID, at time.Time) frame {
	if at.IsZero() { // its event comes later
		at = time.Now()
	}
	return textFrame("execution_start", promptTime{id, at.UnixMilli()})
}

func successFrame(row *Row) frame {
	return textFrame("execution_success", promptTime{row.Job, row.Time.UnixMilli()})
}

type promptTime struct {
	ID        job.ID `json:"prompt_id"`
	Timestamp int64  `json:"timestamp"`
}

// nodeFrame is executing; without a node it is the end of a prompt.
func nodeFrame(id job.ID, node string) frame {
	if node == "" {
		end := textFrame("executing", struct {
			Node *string `json:"node"`
			ID   job.ID  `json:"prompt_id"`
		}{nil, id})
		end.names = id
		return end
	}
	f := textFrame("executing", struct {
		Node    string `json:"node"`
		Display string `json:"display_node"`
		ID      job.ID `json:"prompt_id"`
	}{node, node, id})
	f.names = id
	return f
}

// executedFrame is executed, with what a node left.
func executedFrame(id job.ID, node string, output json.RawMessage) frame {
	return textFrame("executed", struct {
		Node    string          `json:"node"`
		Display string          `json:"display_node"`
		Output  json.RawMessage `json:"output"`
		ID      job.ID          `json:"prompt_id"`
	}{node, node, output, id})
}

// hostText is a text message of a host, as far as a gateway reads it.
type hostText struct {
	Type string `json:"type"`
	Data struct {
		ID     string          `json:"prompt_id"`
		Node   json.RawMessage `json:"node"` // a text, or a number from some nodes
		Output json.RawMessage `json:"output"`
	} `json:"data"`
}

func (h *hostText) node() string {
	var node string
	if json.Unmarshal(h.Data.Node, &node) == nil {
		return node
	}
	return string(h.Data.Node)
}

// readText reads a text message of a host; false when it is none.
func readText(data []byte) (hostText, bool) {
	var h hostText
	if decode(data, &h) != nil && !json.Valid(plainJSON(data)) { // a message may have another data than the ones that are read
		return hostText{}, false
	}
	return h, h.Type != ""
}

// shownText is a host's text message as the client of a job receives it: with the job's id, and with the files where the client
// finds them.
func shownText(data []byte, h *hostText, id job.ID) frame {
	if h.Type == "executed" && present(h.Data.Output) {
		return executedFrame(id, h.node(), shownOutput(id, renamed(h.Data.Output, h.Data.ID, id)))
	}
	out := data
	if len(h.Data.ID) == promptIDLength {
		out = renamed(data, h.Data.ID, id)
	}
	return frame{data: out, droppable: h.Type == "progress" || h.Type == "progress_state"}
}

// Kinds of ComfyUI's binary messages, and of pictures in them.
const (
	previewKind         = 1
	metadataPreviewKind = 4

	jpegFormat = 1
	pngFormat  = 2
)

// shownBinary is a host's binary message as clients receive it. A picture with metadata is also given in the form without, which is the
// only one that most clients read. What is no picture is passed on as it is. JPEG pictures are previews and may be dropped. PNG pictures
// may be the result of a node.
func shownBinary(data []byte, prompt string, id job.ID) frame {
	kind, rest, ok := cutUint32(data)
	switch {
	case ok && kind == previewKind:
		format, _, _ := cutUint32(rest)
		return frame{binary: true, data: data, droppable: format == jpegFormat}
	case !ok || kind != metadataPreviewKind:
		return frame{binary: true, data: data}
	}
	length, rest, ok := cutUint32(rest)
	if !ok || uint64(length) > uint64(len(rest)) {
		return frame{binary: true, data: data}
	}
	metadata, picture := rest[:length], rest[length:]
	var m struct {
		ID   string `json:"prompt_id"`
		Type string `json:"image_type"`
	}
	_ = json.Unmarshal(metadata, &m) // without a type it counts as a JPEG
	if prompt == "" {
		prompt = m.ID
	}
	format := uint32(jpegFormat)
	if m.Type == "image/png" {
		format = pngFormat
	}
	if len(prompt) == promptIDLength {
		metadata = bytes.ReplaceAll(metadata, []byte(prompt), []byte(id))
	}
	full := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(metadata)+len(picture)), metadataPreviewKind)
	full = binary.BigEndian.AppendUint32(full, uint32(len(metadata)))
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(picture)), previewKind)
	plain = binary.BigEndian.AppendUint32(plain, format)
	return frame{
		binary: true, data: append(append(full, metadata...), picture...), plain: append(plain, picture...),
		droppable: format == jpegFormat,
	}
}

// isPicture reports whether a binary message is a preview or another picture.
func isPicture(data []byte) bool {
	kind, _, ok := cutUint32(data)
	return ok && (kind == previewKind || kind == metadataPreviewKind)
}

func cutUint32(data []byte) (n uint32, rest []byte, ok bool) {
	if len(data) < 4 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(data), data[4:], true
}
