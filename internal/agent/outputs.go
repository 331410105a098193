package agent

import (
	"cmp"
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// outputPrefix is the folder into which a prompt writes all its files. Each prompt has its own: under a name that was used
// before, ComfyUI's cache would deliver another job's picture.
func outputPrefix(prompt string) string { return outputFolder + "/" + prompt }

// outputFolder is where all prompts have a folder of their own.
const outputFolder = "comfyherd"

const (
	inlineText  = 4 << 10  // bytes of a text that is in the event itself
	inlineTexts = 64 << 10 // of all texts in one event
	textMedia   = "text"
	textType    = "text/plain; charset=utf-8"
)

// result is one thing that a run made: a file on the host, a picture that came over the websocket, or a text.
type result struct {
	comfy.Output
	text        string
	contentType string // of text, when it is not textType
	stored      bool   // it goes into COMFY_OUTPUTS
	blake3      string // of what was stored, 64 hex digits
}

// storeResults stores what the prompt left: files of the folders output and temp, texts, and pictures that came over the
// websocket or are in a node pack's memory. Files of the input folder existed before and are only named in the event. Only so many attempts store at once;
// the slot is freed when it is this one's turn. Without results it frees nothing, and runAttempt frees the slot then.
func (h *host) storeResults(ctx context.Context, a *attempt) error {
	results := h.results(a)
	if len(results) == 0 && a.record == "" {
		return nil
	}
	select {
	case h.storing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-h.storing }()
	h.freeSlot(a, nil)
	taken := map[string]bool{}
	for i := range results {
		out, err := h.storeResult(ctx, a, &results[i], taken)
		if err != nil {
			return err
		}
		a.outputs = append(a.outputs, out)
	}
	return h.storeRecord(ctx, a)
}

// results gives the run's results: files first, then texts in the order of their nodes.
func (h *host) results(a *attempt) []result {
	var all []result
	for _, o := range a.result.Outputs {
		inFolder := o.Type == "output" || o.Type == "temp"
		all = append(all, result{Output: o, stored: inFolder && h.cfg.Outputs == OutputsStore || o.Type == comfy.Websocket || o.Type == workflow.CachedOutput})
	}
	if len(a.result.Texts) == 0 {
		return all
	}
	room := inlineTexts
	for _, node := range slices.SortedFunc(maps.Keys(a.result.Texts), shorterFirst) {
		for _, text := range a.result.Texts[node] {
			long := len(text) > min(inlineText, room)
			if !long {
				room -= len(text)
			}
			all = append(all, result{
				Output: comfy.Output{Node: node, Media: textMedia, Filename: "text.txt", Type: "output"}, text: text, stored: long,
			})
		}
	}
	return all
}

// shorterFirst orders ids that are numbers by value.
func shorterFirst(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// storeResult stores one result, if it is to be stored, and gives its entry in the event.
func (h *host) storeResult(ctx context.Context, a *attempt, r *result, taken map[string]bool) (job.Output, error) {
	out := job.Output{Node: r.Node, Media: r.Media, Filename: r.Filename, Subfolder: r.Subfolder, Type: r.Type}
	if !r.stored {
		if r.text != "" {
			out.Text, out.Size, out.ContentType = r.text, int64(len(r.text)), textType
		}
		return out, nil
	}
	out.Subfolder = visibleFolder(r.Subfolder, a.prompt)
	file, err := h.storeUntilDone(ctx, a, r, objectName(a, r.Output, taken))
	if err != nil {
		return out, err
	}
	out.Object, out.Size, out.Digest, out.Blake3, out.ContentType = file.Name, file.Size, file.Digest, r.blake3, file.ContentType
	out.Thumb = h.thumbnail(ctx, a, r, &out)
	h.meters.uploaded.Add(float64(file.Size))
	return out, nil
}

// open begins to read a result.
func (h *host) open(ctx context.Context, r *result) (body io.ReadCloser, contentType string, size int64, err error) {
	if r.text != "" {
		return io.NopCloser(strings.NewReader(r.text)), cmp.Or(r.contentType, textType), int64(len(r.text)), nil
	}
	body, contentType, size, err = h.comfy.Open(ctx, r.Output)
	return body, cmp.Or(contentType, "application/octet-stream"), size, err
}

// visibleFolder removes the prompt's own folder from the path.
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
