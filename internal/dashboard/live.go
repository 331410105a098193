package dashboard

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// place is how far a viewer's stream has come.
type place struct {
	who      Viewer
	sequence uint64 // of COMFY_EVENTS: everything up to it was sent
	version  uint64 // of the running jobs
	epoch    int    // of the hub's ring
}

const (
	coalesce    = 250 * time.Millisecond // events are sent together, so often
	heartbeat   = 15 * time.Second       // after which a line says that the stream is alive
	slowViewer  = 10 * time.Second       // the usual longest wait for a viewer who takes nothing
	mostRecent  = 200                    // stored events that a viewer may be sent at the beginning
	retryMillis = 1000                   // after which the browser connects again
)

// stream writes server-sent events to one viewer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time // NATS' time, by which the page shows ages
	slow    time.Duration    // the longest wait for the viewer
	text    bytes.Buffer
}

// live sends events to a viewer as they are stored, until it is gone. The id of each message is a sequence of COMFY_EVENTS: a browser
// that connects again, here or at another dashboard, sends the last one, and is sent everything after it once. When that is
// impossible the message is resync, after which the page reads everything again.
func (d *Dashboard) live(w http.ResponseWriter, r *http.Request) {
	if err := d.hub.enter(r.Context()); err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer d.hub.leave()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events back
	s := &stream{w: w, control: http.NewResponseController(w), now: d.q.Now, slow: d.cfg.Slow}
	at, err := d.begin(r, s)
	if err != nil {
		return
	}
	s.follow(r.Context().Done(), d.hub, at)
}

// begin sends the message hello and what was missed since its last event, or, to a new viewer, the newest events that it asks for.
func (d *Dashboard) begin(r *http.Request, s *stream) (place, error) {
	who := viewerOf(r)
	after, last, epoch := d.hub.reach()
	at := place{who: who, sequence: last, epoch: epoch}
	seen, err := strconv.ParseUint(cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after")), 10, 64)
	resumed := err == nil
	var rows []row
	if recent, err := strconv.ParseUint(r.URL.Query().Get("recent"), 10, 64); err == nil && !resumed { // for a list of what has just happened
		rows, _ = d.hub.missed(r.Context(), last-min(last, recent, mostRecent), last)
	}
	if resumed {
		at.sequence = seen
		if seen > last {
			resumed = false
		} else if seen < after {
			rows, resumed = d.hub.missed(r.Context(), seen, after)
			at.sequence = after
		}
		if !resumed {
			at.sequence = last
		}
	}
	_, _ = fmt.Fprintf(&s.text, "retry: %d\n", retryMillis)
	s.message("hello", 0, map[string]any{
		"now": s.now(), "version": d.cfg.Version, "build": d.assets.hash, "role": who.Role, "tenant": who.Tenant,
		"sequence": at.sequence, "resumed": resumed, "login": len(d.cfg.Keys) > 0, "kept": job.Duration(d.q.EventsAge()), "trace": d.cfg.Trace,
	})
	s.events(visible(rows, who), at.sequence)
	return at, s.send()
}

// visible gives the JSON of the rows that have something to show, and that the viewer may see.
func visible(rows []row, who Viewer) [][]byte {
	seen := make([][]byte, 0, len(rows))
	for i := range rows {
		if r := &rows[i]; r.body != nil && (r.tenant == "" && who.Role != OfTenant || r.tenant != "" && who.sees(r.tenant)) {
			seen = append(seen, r.body)
		}
	}
	return seen
}

// follow sends what is new until the viewer is gone, or takes too long.
func (s *stream) follow(gone <-chan struct{}, h *hub, at place) {
	tick := time.NewTicker(coalesce)
	defer tick.Stop()
	silent := time.Now()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
		}
		news := h.news(at)
		if news.resync {
			s.message("resync", news.last, map[string]any{"now": s.now()})
		}
		s.events(news.events, news.last)
		s.running(news.changed)
		at.sequence, at.version, at.epoch = news.last, news.version, news.epoch
		if s.text.Len() == 0 {
			if time.Since(silent) < heartbeat {
				continue
			}
			s.message("time", 0, map[string]any{"now": s.now()})
		}
		if s.send() != nil {
			return
		}
		silent = time.Now()
	}
}

func (s *stream) message(name string, id uint64, data any) {
	body, _ := json.Marshal(data) // all that is given can be encoded
	if id > 0 {
		_, _ = fmt.Fprintf(&s.text, "id: %d\n", id)
	}
	_, _ = fmt.Fprintf(&s.text, "event: %s\ndata: %s\n\n", name, body)
}

func (s *stream) events(events [][]byte, last uint64) {
	if len(events) > 0 {
		s.list("events", "events", last, events)
	}
}

func (s *stream) running(changed [][]byte) {
	if len(changed) > 0 {
		s.list("running", "jobs", 0, changed)
	}
}

// list is a message with JSON that is encoded already.
func (s *stream) list(name, field string, id uint64, bodies [][]byte) {
	if id > 0 {
		_, _ = fmt.Fprintf(&s.text, "id: %d\n", id)
	}
	now, _ := json.Marshal(s.now()) // a time with a year of four digits can be encoded
	_, _ = fmt.Fprintf(&s.text, "event: %s\ndata: {\"now\":%s,%q:[", name, now, field)
	for i, body := range bodies {
		if i > 0 {
			s.text.WriteByte(',')
		}
		s.text.Write(body)
	}
	s.text.WriteString("]}\n\n")
}

// send writes what is gathered, and fails when the viewer takes too long.
func (s *stream) send() error {
	defer s.text.Reset()
	_ = s.control.SetWriteDeadline(time.Now().Add(s.slow)) // a server of tests may have none
	if _, err := s.w.Write(s.text.Bytes()); err != nil {
		return err
	}
	return s.control.Flush()
}
