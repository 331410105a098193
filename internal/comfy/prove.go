package comfy

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// ComfyUI answers a node that it ran before from its cache, with the names of the files that the node wrote then. Another
// prompt may have overwritten them since. A file is this prompt's, and needs no proof, when its node was run now or when
// it lies in the prompt's own folder. Any other needs proof by its version (ETag): it must be the one that the file had
// when a prompt of this process ended in which a node of the same signature wrote it. Open then hands out no other
// version. A file without proof is not delivered: ComfyUI's cache is dropped and the prompt is run once more (Host.Run).
// If there is none after that either, the attempt is lost.

// maxProofs bounds the files whose versions are remembered.
const maxProofs = 8192

// madeFile is a file and what was computed to write it.
type madeFile struct {
	file fileRef
	node signature
}

// unproven is the exception type of a result that may be another prompt's.
const unproven = "result_not_proven"

// finish checks what the host reported and completes the result.
func (r *run) finish(ctx context.Context, result *Result) *failure.Failure {
	if f := r.complete(result.CachedNodes); f != nil {
		return f
	}
	if f := r.resolveGuesses(ctx, result); f != nil {
		return f
	}
	left := map[string]bool{}
	for _, o := range result.Outputs {
		left[o.Node] = true
		r.host.remember(fileRef{o.Type, o.Subfolder, o.Filename})
	}
	for node := range result.Texts {
		left[node] = true
	}
	if f := r.proveFiles(ctx, result); f != nil {
		return f
	}
	result.Outputs = append(result.Outputs, r.album.pictures(r.prompt.ID, left)...)
	result.Missing = len(result.Outputs) == 0 && len(result.Texts) == 0
	return nil
}

// resolveGuesses looks for the files that a plain text seems to name: "temp/bg.png" lies in the folder for temporary
// files, and what is no file is a text.
func (r *run) resolveGuesses(ctx context.Context, result *Result) *failure.Failure {
	e := r.ending
	files := result.Outputs[:0:0]
	for i, o := range result.Outputs {
		if i >= len(e.guessed) || !e.guessed[i] {
			files = append(files, o)
			continue
		}
		found, err := r.host.guess(ctx, o)
		if err != nil {
			return failure.New(failure.HostLost, "ComfyUI does not say whether a result is there: "+why(err))
		}
		if found.Filename != "" {
			files = append(files, found)
			continue
		}
		e.addText(o.Node, path.Join(o.Subfolder, o.Filename))
		result.Texts = e.texts
	}
	result.Outputs = files
	return nil
}

func (h *Host) guess(ctx context.Context, o Output) (Output, error) {
	tries := []Output{o}
	if rest, temp := strings.CutPrefix(o.Subfolder+"/", "temp/"); temp {
		other := o
		other.Type, other.Subfolder = "temp", strings.TrimSuffix(rest, "/")
		tries = append(tries, other)
	}
	for _, try := range tries {
		header, err := h.await(ctx, fileRef{try.Type, try.Subfolder, try.Filename})
		if isStatus(err) {
			continue // a name that ComfyUI does not take is none of its files
		}
		if err != nil {
			return Output{}, err
		}
		if header != nil {
			return try, nil
		}
	}
	return Output{}, nil
}

// proveFiles checks the files of cached nodes, and remembers the versions of those that this prompt wrote outside of its
// own folder.
func (r *run) proveFiles(ctx context.Context, result *Result) *failure.Failure {
	cached := map[string]bool{}
	for _, node := range result.CachedNodes {
		cached[node] = true
	}
	signed := signaturesOf(r.prompt.Workflow)
	silent := false // after one failure no more proofs are recorded, so that the result does not wait
	for i, o := range result.Outputs {
		if o.Type == workflow.CachedOutput { // no other prompt writes it; one of an earlier prompt may be forgotten by now
			if cached[o.Node] {
				return overwritten(o)
			}
			continue
		}
		if inFolder(o.Subfolder, r.prompt.ID) || o.Type == "input" || silent && !cached[o.Node] {
			continue
		}
		m := madeFile{fileRef{o.Type, o.Subfolder, o.Filename}, signed.of(o.Node)}
		if !cached[o.Node] {
			silent = silent || r.host.proves(ctx, m, r.ending) != nil
			continue
		}
		header, err := r.host.await(ctx, m.file)
		if err != nil && !isStatus(err) {
			return failure.New(failure.HostLost, "ComfyUI does not say whether a result is there: "+why(err))
		}
		if header == nil || !r.host.proven(m, version(header)) {
			return overwritten(o)
		}
		result.Outputs[i].Version = version(header)
	}
	return nil
}

func overwritten(o Output) *failure.Failure {
	return &failure.Failure{Kind: failure.Lost, Node: clip(oneLine(o.Node), 100), Exception: unproven, Message: fmt.Sprintf(
		"ComfyUI took the result %s of node %s from its cache, and another prompt may have overwritten the file since, so that it is not delivered",
		oneLine(path.Join(o.Subfolder, o.Filename)), clip(oneLine(o.Node), 100))}
}

// proves remembers the version of a file that a node of this prompt wrote, if it was written while the prompt ran: a
// later prompt may have overwritten it already.
func (h *Host) proves(ctx context.Context, m madeFile, e *ending) error {
	header, err := h.stat(ctx, m.file)
	v := version(header)
	if v == "" {
		return err
	}
	if written := writtenAt(header); !e.last.IsZero() && written.Truncate(time.Millisecond).After(e.last) {
		v = ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.proofs) >= maxProofs {
		clear(h.proofs)
	}
	h.proofs[m] = v
	return nil
}

func (h *Host) proven(m madeFile, v string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return v != "" && h.proofs[m] == v
}

// await is stat that waits for a ComfyUI that is busy, as a run does.
func (h *Host) await(ctx context.Context, s fileRef) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, h.options.SilentTimeout)
	defer cancel()
	for {
		header, err := h.stat(ctx, s)
		if err == nil || isStatus(err) || refused(err) || !pause(ctx, h.options.PollInterval) {
			return header, err
		}
	}
}

// version tells one content of a file from the next: its ETag, else time and size; empty for a file that is not there. A proxy may
// mark an ETag as weak.
func version(header http.Header) string {
	if tag := strings.TrimPrefix(header.Get("Etag"), "W/"); tag != "" {
		return tag
	}
	if at := header.Get("Last-Modified"); at != "" {
		return at + " " + header.Get("Content-Length")
	}
	return ""
}

// writtenAt is when a file was written, by the host's clock: to the nanosecond from an ETag of aiohttp ("<time>-<size>"
// in hexadecimal) that agrees with Last-Modified, else to the second.
func writtenAt(header http.Header) time.Time {
	modified, _ := http.ParseTime(header.Get("Last-Modified")) // zero without one, which no stamp agrees with
	stamp, _, _ := strings.Cut(strings.Trim(strings.TrimPrefix(header.Get("Etag"), "W/"), `"`), "-")
	if ns, err := strconv.ParseInt(stamp, 16, 64); err == nil && time.Unix(0, ns).Truncate(time.Second).Equal(modified) {
		return time.Unix(0, ns)
	}
	return modified
}

// dropCache drops ComfyUI's cache and keeps its models, and makes it forget the prompt's first run.
func (h *Host) dropCache(ctx context.Context, promptID string) error {
	if err := h.command(ctx, "/free", map[string]any{"unload_models": false, "free_memory": true}); err != nil {
		return err
	}
	return h.Forget(ctx, promptID)
}

func isStatus(err error) bool {
	_, is := asStatus(err)
	return is
}
