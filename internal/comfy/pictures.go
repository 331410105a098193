package comfy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Websocket is the Type of an Output that came over the websocket.
const Websocket = "websocket"

// Bounds on what one prompt may send over the websocket: beyond the first its pictures lie in a file.
const (
	maxInMemory = 4 << 20
	maxPictures = 4 << 30
)

// album keeps the pictures that a prompt sends over the websocket, as they came and in their order. Which frames are
// pictures and not previews of work under way is decided so:
//
//   - all frames of a node whose class ends in "websocket", whatever its letters' case (SaveImageWebsocket,
//     ETN_SendImageWebSocket): such nodes have no other way to hand something out;
//   - the PNG frames of another output node (by the newest /object_info), if it leaves nothing else: previews of
//     sampling are JPEG, and come from nodes that are no output nodes.
//
// An album belongs to one tracker until its prompt has ended, and is not changed afterwards.
type album struct {
	outputs map[string]bool // classes that are output nodes; nil when /object_info was not read
	frames  []frame
	most    map[string]int // pictures that a node will send, by its progress
	memory  []byte
	file    *os.File // nil until memory is full
	size    int64
	failed  error // a picture could not be kept
}

// frame is one picture: where in the album it lies.
type frame struct {
	node, class, contentType string
	from, length             int64
}

func sends(class string) bool {
	const ending = "websocket"
	return len(class) >= len(ending) && strings.EqualFold(class[len(class)-len(ending):], ending)
}

func (h *Host) newAlbum() *album {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &album{outputs: h.classes, most: map[string]int{}}
}

// expected reports whether some node of the graph sends its pictures over the websocket.
func (a *album) expected(classes map[string]string) bool {
	for _, class := range classes {
		if sends(class) {
			return true
		}
	}
	return false
}

func (a *album) wants(node, class, contentType string) bool {
	return a != nil && node != "" && (sends(class) || a.outputs[class] && contentType == "image/png")
}

// expects notes how many pictures a node will send: it counts them as its progress.
func (a *album) expects(node string, most float64) {
	if a != nil && most > 0 && most < 1<<31 {
		a.most[node] = int(most)
	}
}

func (a *album) add(node, class string, p preview) {
	if a.failed != nil {
		return
	}
	if a.size+int64(len(p.image)) > maxPictures {
		a.failed = fmt.Errorf("the prompt sends more than %d bytes of pictures", int64(maxPictures))
		return
	}
	if a.file == nil && a.size+int64(len(p.image)) > maxInMemory {
		a.failed = a.spool()
	}
	if a.file != nil && a.failed == nil {
		_, a.failed = a.file.Write(p.image)
	} else {
		a.memory = append(a.memory, p.image...)
	}
	a.frames = append(a.frames, frame{node, class, p.contentType, a.size, int64(len(p.image))})
	a.size += int64(len(p.image))
}

// spool moves what is in memory to a temporary file.
func (a *album) spool() error {
	file, err := os.CreateTemp("", "comfyherd-pictures-*")
	if err != nil {
		return err
	}
	a.file = file
	_, err = file.Write(a.memory)
	a.memory = nil
	return err
}

func (a *album) drop() {
	if a == nil || a.file == nil {
		return
	}
	name := a.file.Name()
	_ = a.file.Close()
	_ = os.Remove(name) // what cannot be removed stays in the folder for temporary files
	a.file = nil
}

func (a *album) read(at int) io.Reader {
	f := a.frames[at]
	if a.file != nil {
		return io.NewSectionReader(a.file, f.from, f.length)
	}
	return strings.NewReader(string(a.memory[f.from : f.from+f.length]))
}

// pictures are the album's pictures as outputs, but for nodes that left something else and whose frames were previews.
func (a *album) pictures(prompt string, left map[string]bool) []Output {
	count := map[string]int{}
	var all []Output
	for _, f := range a.frames {
		if left[f.node] && !sends(f.class) {
			continue
		}
		count[f.node]++
		ending := ".png"
		if f.contentType == "image/jpeg" {
			ending = ".jpg"
		}
		all = append(all, Output{
			Node: f.node, Media: "images", Filename: fmt.Sprintf("%s_%05d_%s", plainName(f.node), count[f.node], ending),
			Subfolder: ownFolder + "/" + prompt, Type: Websocket,
		})
	}
	return all
}

// plainName is a node's id as part of a file name.
func plainName(node string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, clip(node, 40))
}

// complete is nil when all pictures came of the nodes that send theirs over the websocket only. They are lost when the
// socket breaks or another process takes the prompt over, since ComfyUI keeps none.
func (r *run) complete(cached []string) *failure.Failure {
	got, outputs, targets := map[string]int{}, r.album.outputs, r.prompt.Targets
	for _, f := range r.album.frames {
		got[f.node]++
	}
	for _, node := range slices.SortedFunc(maps.Keys(r.track.classes), compareNodes) {
		class := r.track.classes[node]
		if !sends(class) || outputs != nil && !outputs[class] || len(targets) > 0 && !slices.Contains(targets, node) ||
			slices.Contains(cached, node) || r.track.blocks(node) {
			continue
		}
		what := ""
		switch most := r.album.most[node]; {
		case r.album.failed != nil:
			what = "they could not be kept on this machine: " + oneLine(r.album.failed.Error())
		case got[node] == 0:
			what = "none came"
		case got[node] < most:
			what = fmt.Sprintf("only %d of %d came", got[node], most)
		}
		if what != "" {
			return &failure.Failure{Kind: failure.Lost, Node: clip(oneLine(node), 100), Class: clip(oneLine(class), 100), Exception: "pictures_lost",
				Message: fmt.Sprintf("node %s sends its pictures over the websocket only, and %s", clip(oneLine(node), 100), what)}
		}
	}
	return nil
}

// blocks says that an ExecutionBlocker kept the node from being run.
func (t *tracker) blocks(node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unrun[node]
}

// seal takes the album away from the tracker: nothing is added to it from here on.
func (t *tracker) seal() *album {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.album
	t.album = nil
	return a
}

// keep holds a prompt's pictures until Discard.
func (h *Host) keep(prompt string, outputs []Output, a *album) {
	if !slices.ContainsFunc(outputs, func(o Output) bool { return o.Type == Websocket }) {
		a.drop()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.albums[prompt] = a
}

// Discard drops the pictures of a prompt that came over the websocket. Their readers must be closed by then.
func (h *Host) Discard(promptID string) {
	h.mu.Lock()
	a := h.albums[promptID]
	delete(h.albums, promptID)
	h.mu.Unlock()
	a.drop()
}

// openPicture reads one output of Type Websocket.
func (h *Host) openPicture(ctx context.Context, o Output) (body io.ReadCloser, contentType string, size int64, err error) {
	h.mu.Lock()
	a := h.albums[path.Base(o.Subfolder)]
	h.mu.Unlock()
	if ctx.Err() != nil {
		return nil, "", 0, context.Cause(ctx)
	}
	count := 0
	for i := range a.length() {
		f := a.frames[i]
		if f.node != o.Node {
			continue
		}
		count++
		if strings.HasPrefix(o.Filename, fmt.Sprintf("%s_%05d_.", plainName(f.node), count)) {
			return io.NopCloser(a.read(i)), f.contentType, f.length, nil
		}
	}
	return nil, "", 0, &failure.Failure{Kind: failure.Lost, Node: o.Node, Exception: "result_missing",
		Message: "the picture " + clip(oneLine(o.Filename), 100) + " of node " + clip(o.Node, 100) + " came over the websocket and was dropped before it was read"}
}

func (a *album) length() int {
	if a == nil {
		return 0
	}
	return len(a.frames)
}
