package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	mostStreams   = 256                    // of a tenant on one gateway
	streamBeat    = 10 * time.Second       // between comments; clients give up after 45 s of silence, proxies after less
	streamPause   = 500 * time.Millisecond // between two frames of progress, and of previews
	streamTimeout = 30 * time.Second       // for a frame, which a client that reads nothing does not take
)

// streams counts the streams of a tenant that are open.
type streams struct{ open atomic.Int64 }

// stream is one answer of server-sent events. Each frame has the newest state, and states between two frames are left out. So a
// slow reader costs no memory and always gets the newest state.
type stream struct {
	g    *Gateway
	r    *http.Request
	of   *tenant
	id   job.ID
	w    http.ResponseWriter
	rc   *http.ResponseController
	view *v2View

	told     bool // a status was sent
	status   v2StatusEvent
	place    *int // in the queue, as last asked
	progress *jetstream.Progress
	preview  *livePreview
	sent     time.Time // of the last progress or preview
}

// getJobEvents sends the events of a job until it has ended. Every output comes before the last status, after which clients read
// nothing; that also holds when the job had ended before. The stream ends earlier only when the gateway stops.
func (g *Gateway) getJobEvents(w http.ResponseWriter, r *http.Request, of *tenant) error {
	row, err := g.job(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	if of.streams.open.Add(1) > mostStreams {
		of.streams.open.Add(-1)
		e := refuse(http.StatusTooManyRequests, "too_many_streams", "you have %d streams open, which is the most: close one, or read the job instead", mostStreams)
		e.retryAfter = retrySeconds
		return e
	}
	defer of.streams.open.Add(-1)
	g.metrics.streams.Inc()
	defer g.metrics.streams.Dec()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &stream{g: g, r: r, of: of, id: row.Job, w: w, rc: http.NewResponseController(w), view: g.viewOf(r)}
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }() // for the next answer on this connection
	_ = s.run(row)                                            // the client has gone
	return nil
}

// run sends what has changed, and waits for the next change.
func (s *stream) run(row *Row) error {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for ask := true; ; {
		rows := s.of.rows.Changed()
		if now, known := s.of.rows.Row(s.id); known {
			row = &now
		}
		if ask && statusOf(row) == v2Queued {
			s.place = s.g.position(s.r.Context(), s.of, s.id)
		}
		ask = false
		if row.Ended() {
			s.of.live.forget(s.id)
			return s.end(row)
		}
		progress, preview, live := s.of.live.of(s.id)
		if err := s.update(row, progress, preview); err != nil {
			return err
		}
		var later <-chan time.Time // when the progress may be sent that is too early now
		if wait := streamPause - time.Since(s.sent); wait > 0 {
			live = nil
			later = time.After(wait)
		}
		select {
		case <-rows:
		case <-live:
		case <-later:
		case <-beat.C:
			ask = true
			if err := s.send(func(b *bytes.Buffer) error { return writeComment(b) }); err != nil {
				return err
			}
		case <-s.r.Context().Done():
			return s.r.Context().Err()
		case <-s.g.leaving:
			return nil
		}
	}
}

// update sends the status, when it has changed, and the newest progress and preview, when they may be sent.
func (s *stream) update(row *Row, progress *jetstream.Progress, preview *livePreview) error {
	now := v2StatusEvent{Status: statusOf(row)}
	if now.Status == v2Queued {
		now.QueuePosition = s.place
	}
	changed := !s.told || now.Status != s.status.Status || !samePlace(now.QueuePosition, s.status.QueuePosition)
	early := time.Since(s.sent) < streamPause
	newer := !early && row.Begun() && (progress != nil && progress != s.progress || preview != nil && preview != s.preview)
	if !changed && !newer {
		return nil
	}
	return s.send(func(b *bytes.Buffer) error {
		if changed {
			s.told, s.status = true, now
			if err := writeEvent(b, statusEvent, now); err != nil {
				return err
			}
		}
		if !newer {
			return nil
		}
		s.sent = time.Now()
		return s.writeLive(b, progress, preview)
	})
}

func samePlace(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

func (s *stream) writeLive(b *bytes.Buffer, progress *jetstream.Progress, preview *livePreview) error {
	if progress != nil && progress != s.progress {
		s.progress = progress
		if err := writeEvent(b, progressEvent, progressOf(progress)); err != nil {
			return err
		}
	}
	if preview == nil || preview == s.preview {
		return nil
	}
	s.preview = preview
	node := ""
	if progress != nil { // a preview does not say which node it is of: the one that runs
		node = progress.Node
	}
	return writeEvent(b, previewEvent, v2PreviewEvent{NodeID: node, ContentType: preview.contentType, Data: preview.image})
}

// end sends the last progress, every output, and then the status after which nothing follows.
func (s *stream) end(row *Row) error {
	j := s.view.job(row, nil)
	return s.send(func(b *bytes.Buffer) error {
		if j.Progress != nil {
			if err := writeEvent(b, progressEvent, j.Progress); err != nil {
				return err
			}
		}
		for i := range j.Outputs {
			if err := writeEvent(b, outputEvent, j.Outputs[i]); err != nil {
				return err
			}
		}
		return writeEvent(b, statusEvent, v2StatusEvent{Status: j.Status})
	})
}

// send writes frames and has them sent at once.
func (s *stream) send(write func(*bytes.Buffer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := s.rc.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
		return fmt.Errorf("limit the time of a frame: %w", err)
	}
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("send events of job %s: %w", s.id, err)
	}
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("send events of job %s: %w", s.id, err)
	}
	return nil
}
