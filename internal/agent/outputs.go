package agent

import (
	"context"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// outputPrefix is the folder of a prompt's own that all its files get: ComfyUI's cache would deliver another job's
// picture under a name that was used before.
func outputPrefix(prompt string) string { return "comfyherd/" + prompt }

// ship gives the slot back and stores the files that the prompt left, of types output and temp; others are somebody
// else's and are only named.
func (h *host) ship(ctx context.Context, a *attempt) error {
	if len(a.result.Outputs) == 0 {
		return nil
	}
	select {
	case h.shipping <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-h.shipping }()
	h.release(a, nil)
	taken := map[string]bool{}
	for _, o := range a.result.Outputs {
		out := job.Output{Node: o.Node, Media: o.Media, Filename: o.Filename, Subfolder: o.Subfolder, Type: o.Type}
		if h.cfg.Outputs == OutputsStore && (o.Type == "output" || o.Type == "temp") {
			out.Subfolder = visibleFolder(o.Subfolder, a.prompt)
			file, err := h.store(ctx, o, objectName(a, o, taken))
			if err != nil {
				return err
			}
			out.Object, out.Size, out.Digest, out.ContentType = file.Name, file.Size, file.Digest, file.ContentType
			h.meters.uploaded.Add(float64(file.Size))
		}
		a.outputs = append(a.outputs, out)
	}
	return nil
}

// storeTries bounds the tries while NATS is connected and refuses; while it is away there is no bound.
const storeTries = 5

// store copies one file from ComfyUI into COMFY_OUTPUTS. When NATS fails it is tried again from the start; when
// ComfyUI fails that is how the attempt ends.
func (h *host) store(ctx context.Context, o comfy.Output, name string) (jetstream.File, error) {
	refused := 0
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		file, err, from := h.storeOnce(ctx, o, name)
		if err == nil {
			return file, nil
		}
		if ctx.Err() != nil {
			return file, context.Cause(ctx)
		}
		if from != nil {
			poke(h.examineNow)
			return file, from
		}
		if h.q.Connected() {
			refused++
		}
		if refused >= storeTries {
			return file, failure.New(failure.Lost, fmt.Sprintf("cannot store the result %s of node %s: %v", o.Filename, o.Node, err))
		}
		h.log.Warn("cannot store a result; trying again", "object", name, "error", err, "in", wait)
		pause(ctx, wait)
	}
}

// storeOnce tells a failure of ComfyUI (from) from one of the object store.
func (h *host) storeOnce(ctx context.Context, o comfy.Output, name string) (file jetstream.File, err, from error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(h.stallTimeout(), cancel)
	defer stalled.Stop()
	body, contentType, _, err := h.comfy.Open(ctx, o)
	if err != nil {
		return file, err, failure.As(err)
	}
	defer body.Close()
	src := &source{Reader: &lively{body, func() { stalled.Reset(h.stallTimeout()) }}}
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	file, err = h.q.StoreOutput(ctx, name, contentType, src)
	if src.err != nil {
		return file, src.err, failure.New(failure.HostLost,
			fmt.Sprintf("ComfyUI broke off while it handed out %s of node %s: %v", o.Filename, o.Node, src.err))
	}
	return file, err, nil
}

// stallTimeout is how long a copy may stand still.
func (h *host) stallTimeout() time.Duration {
	return max(h.cfg.FreezeTimeout, 5*time.Second) + wireTimeout
}

// lively reports every read.
type lively struct {
	io.Reader
	read func()
}

func (l *lively) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.read()
	return n, err
}

// visibleFolder takes the prompt's own folder off again.
func visibleFolder(subfolder, prompt string) string {
	folder := strings.ReplaceAll(subfolder, `\`, "/")
	if rest, own := strings.CutPrefix(folder, outputPrefix(prompt)); own && (rest == "" || rest[0] == '/') {
		return strings.TrimPrefix(rest, "/")
	}
	return subfolder
}

// objectName is <tenant>/<job>/<node>/<file>, made unique within the job. A later attempt has its number in the
// file's name: an earlier one that was taken for lost may still be writing.
func objectName(a *attempt, o comfy.Output, taken map[string]bool) string {
	file := path.Base(strings.ReplaceAll(o.Filename, `\`, "/"))
	extension := path.Ext(file)
	stem := strings.TrimSuffix(file, extension)
	if a.attempt > 1 {
		stem += "-a" + strconv.Itoa(a.attempt)
	}
	for n := 1; ; n++ {
		name := stem + extension
		if n > 1 {
			name = stem + "-" + strconv.Itoa(n) + extension
		}
		name = string(a.tenant) + "/" + string(a.key.job) + "/" + o.Node + "/" + name
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
}
