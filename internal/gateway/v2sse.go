package gateway

import (
	"encoding/json"
	"fmt"
	"io"
)

// Names of server-sent events.
const (
	statusEvent   = "status"
	progressEvent = "progress"
	previewEvent  = "preview"
	outputEvent   = "output"
)

// writeEvent writes one event. JSON has no line breaks outside of strings and escapes those inside, so its data is one line.
func writeEvent(w io.Writer, event string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", event, err)
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, body)
	return err
}

// writeComment writes what readers of events ignore, so that neither they nor proxies take the silence for a lost connection.
func writeComment(w io.Writer) error {
	_, err := io.WriteString(w, ": the stream is alive\n\n")
	return err
}
