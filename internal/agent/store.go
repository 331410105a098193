package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"lukechampine.com/blake3"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	maxStorePause = 30 * time.Second // between two tries to store a result
	largeFile     = 4 << 20          // bytes: a result that has more, or of unknown size, is stored with few others at a time
	largeAtOnce   = 2                // of an agent
)

// storeUntilDone copies one result into COMFY_OUTPUTS, and tries until it is stored: a failure of the object store does not
// end the attempt. The host accepts no other job meanwhile. A failure of ComfyUI ends the attempt.
func (h *host) storeUntilDone(ctx context.Context, a *attempt, r *result, name string) (jetstream.File, error) {
	defer h.storable(a.run)
	for wait := appendPause; ; wait = min(2*wait, maxStorePause) {
		reconnected := h.q.Reconnected() // before the try, so that a reconnect during it is not missed
		file, err, from := h.storeInTurn(ctx, r, name)
		if err == nil {
			return file, nil
		}
		if ctx.Err() != nil {
			return file, context.Cause(ctx)
		}
		if from != nil {
			signal(h.probeNow)
			return file, from
		}
		h.log.Warn("cannot store a result; trying again", "job", a.key, "object", name, "error", err, "in", wait)
		if h.q.Connected() {
			h.unstorable(a.run, err)
		}
		if err := h.wait(ctx, wait, reconnected); err != nil {
			h.extend(a.currentLease()) // so that the next agent has time to resume the job
			return file, err
		}
	}
}

// errLarge says that a result is large and must wait until few other large ones are stored.
var errLarge = errors.New("a large file")

// storeInTurn stores a small result at once and a large one when few other large ones are stored, which bounds the agent's
// memory and leaves bandwidth for the small ones. A failure of ComfyUI is returned as from, one of the object store as err.
func (h *host) storeInTurn(ctx context.Context, r *result, name string) (file jetstream.File, err, from error) {
	if file, err, from = h.storeOnce(ctx, r, name, false); !errors.Is(err, errLarge) {
		return file, err, from
	}
	select {
	case h.large <- struct{}{}:
	case <-ctx.Done():
		return file, context.Cause(ctx), nil
	}
	defer func() { <-h.large }()
	return h.storeOnce(ctx, r, name, true)
}

func (h *host) storeOnce(ctx context.Context, r *result, name string, large bool) (file jetstream.File, err, from error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(h.stallTimeout(), cancel)
	defer stalled.Stop()
	body, contentType, size, err := h.open(ctx, r)
	if err != nil {
		return file, err, failure.As(err)
	}
	defer body.Close()
	if !large && (size < 0 || size > largeFile) {
		return file, errLarge, nil
	}
	src := &source{Reader: &timedReader{body, stalled, h.stallTimeout()}}
	sum := blake3.New(32, nil)
	file, err = h.q.StoreOutput(ctx, name, contentType, io.TeeReader(src, sum))
	r.blake3 = hex.EncodeToString(sum.Sum(nil))
	if src.err != nil {
		return file, src.err, failure.New(failure.HostLost,
			fmt.Sprintf("ComfyUI broke off while it handed out %s of node %s: %v", r.Filename, r.Node, src.err))
	}
	return file, err, nil
}

// stallTimeout is how long a copy may make no progress.
func (h *host) stallTimeout() time.Duration {
	return max(h.cfg.FreezeTimeout, 5*time.Second) + wireTimeout
}

// unstorable makes the host unhealthy while a result of a run cannot be stored.
func (h *host) unstorable(r *run, err error) {
	h.set(func(d *admission) {
		r.unstored = true
		d.conditions.put(condition{cause: failure.Unstorable, reason: unstorableText(err), since: time.Now()})
	})
}

func unstorableText(err error) string {
	return "results cannot be stored: " + err.Error() + "; the agent goes on trying, and the host takes jobs again once they are stored"
}

// storable ends that condition when no result waits any more.
func (h *host) storable(r *run) {
	h.set(func(d *admission) {
		r.unstored = false
		for _, other := range d.runs {
			if other.unstored {
				return
			}
		}
		d.conditions.remove(failure.Unstorable)
	})
}

// timedReader resets a timer with every read.
type timedReader struct {
	io.Reader
	timer *time.Timer
	pause time.Duration
}

func (l *timedReader) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.timer.Reset(l.pause)
	return n, err
}
