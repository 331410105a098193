package agent

import (
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// livePause makes five messages a second at most, of progress and of previews each.
const livePause = 200 * time.Millisecond

// live publishes a run's progress and previews. It never blocks the run: what comes too fast is replaced by what comes
// next. The last progress is always published.
type live struct {
	host   *host
	run    *run
	shown  time.Time         // when the newest preview was sent; only the run's goroutine uses it
	last   []byte            // the newest preview, for the small picture of a video; only the run's goroutine uses it
	frames uint64            // number of the newest frame; only the run's goroutine uses it
	hide   *strings.Replacer // of the secrets in frames; nil when the job has none

	mu     sync.Mutex // guards all below
	told   time.Time
	newest *comfy.Progress // not yet sent
	timer  *time.Timer     // sends newest
}

func (l *live) progress(p comfy.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = &p
	wait := livePause - time.Since(l.told)
	switch {
	case wait <= 0:
		l.flush()
	case l.timer == nil:
		l.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.timer = nil
			l.flush()
		})
	}
}

// flush must be called with mu held.
func (l *live) flush() {
	if l.newest != nil {
		l.tell(l.newest)
		l.newest, l.told = nil, time.Now()
	}
}

// tell and show send nothing while NATS is disconnected: it would take the room of acks in the connection's buffer.
func (l *live) tell(p *comfy.Progress) {
	if !l.host.q.Connected() {
		return
	}
	err := l.host.q.PublishProgress(l.run.tenant, l.run.job, jetstream.Progress{
		Value: p.Value, Max: p.Max, Node: p.Node, Class: p.Class, NodesDone: p.NodesDone, NodesTotal: p.NodesTotal,
	})
	if err != nil {
		l.host.log.Debug("cannot publish progress", "job", l.run.key, "error", err)
	}
}

func (l *live) show(contentType string, image []byte) {
	if !l.host.q.Connected() {
		return
	}
	if err := l.host.q.PublishPreview(l.run.tenant, l.run.job, contentType, image); err != nil {
		l.host.log.Debug("cannot publish a preview", "job", l.run.key, "error", err)
	}
}

// mostLast is the most bytes of a preview that is kept to make a small picture of it.
const mostLast = 1 << 20

func (l *live) preview(contentType string, image []byte) {
	if len(image) <= mostLast {
		l.last = image
	}
	if time.Since(l.shown) >= livePause {
		l.shown = time.Now()
		l.show(contentType, image)
	}
}

// frame relays a message of ComfyUI's websocket. A message that is not sent also gets a number, so receivers see that one is
// missing.
func (l *live) frame(f comfy.Frame) {
	l.frames += uint64(f.Missing) + 1
	if !l.host.q.Connected() {
		return
	}
	if l.hide != nil {
		f.Data = []byte(l.hide.Replace(string(f.Data)))
	}
	err := l.host.q.PublishFrame(l.run.tenant, &queue.Frame{
		Job: l.run.job, Attempt: l.run.attempt, Number: l.frames, Binary: f.Binary, Data: f.Data,
	})
	if err != nil {
		l.host.log.Debug("cannot relay a message of ComfyUI", "job", l.run.key, "error", err)
	}
}

// stop sends the progress that is left.
func (l *live) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.flush()
}
