package comfy

import "time"

// What the fuzz targets feed, without a socket around it.
var (
	ParseText   = func(frame []byte) (prompt string, ok bool) { e, ok := parseText(frame); return e.prompt, ok }
	ParseBinary = func(frame []byte) (image []byte, ok bool) { p, ok := parseBinary(frame); return p.image, ok }
)

// Track hands a text frame to the tracker of a prompt, as the socket does.
func Track(frame []byte) {
	if e, ok := parseText(frame); ok {
		newTracker(e.prompt, shape{classes: map[string]string{"1": "A"}}).see(e, time.Unix(1, 0))
	}
}

// ReadAnswer reads body as every answer that Run reads.
func ReadAnswer(body []byte, id string) {
	var r refusal
	if decode(body, &r) == nil {
		_ = r.failure(nil)
	}
	for _, e := range endingsOf(body, id) {
		if e != nil {
			_ = e.failure()
			_ = e.reused()
		}
	}
	if line, err := readBacklog(body); err == nil {
		line.find(id)
	}
	_ = wedged(entriesOf(string(body)))
	_, _ = uploadedName(answer{status: 200, body: body}, "a.png")
}

func endingsOf(body []byte, id string) []*ending {
	_, fromJob := readJob(body)
	fromHistory, _ := readHistory(body, id)
	return []*ending{fromJob, fromHistory}
}
