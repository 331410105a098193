package comfy

import (
	"cmp"
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Output is one file that a node left on the host.
type Output struct {
	Node      string // id of the graph node
	Media     string // its key in the node's output: images, gifs, audio, video, 3d …
	Filename  string
	Subfolder string
	Type      string // output, temp or input: the folder that Subfolder is in; Websocket: it is kept by Host until Discard; workflow.CachedOutput

	// Version is the ETag that the file had when it was proven to be this prompt's; Open hands out no other. Empty for
	// files that need no proof (prove.go).
	Version string
}

// maxText bounds the bytes of all texts in a Result.
const maxText = 16 << 20

// produced is what the nodes of one prompt left: files and texts.
type produced struct {
	files   []Output
	texts   map[string][]string
	guessed []bool // by place in files: it is a plain text that looks like the name of a file
	size    int    // of all texts
}

// readOutputs reads {node: {media: [entry, …]}}: every entry with a filename is a file, every one with an id that can be asked over HTTP a picture (cached.go), every string or number under
// "text" a text, and every string under "result" that looks like a path is a file (what 3D nodes show: "mesh/a.glb"),
// else a text; all the rest (animated: [true], counters, camera positions) is passed over. Files are ordered by node
// (numbers by value), media and their place in the list.
func readOutputs(nodes map[string]json.RawMessage) produced {
	var p produced
	for _, node := range slices.SortedFunc(maps.Keys(nodes), compareNodes) {
		p.add(node, nodes[node])
	}
	return p
}

func (p *produced) add(node string, output json.RawMessage) {
	var media map[string]json.RawMessage
	if decode(output, &media) != nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(media)) {
		p.addEntry(node, key, media[key], 0)
	}
}

// addEntry takes in one value, or those of a list; lists of lists go two deep, as some nodes wrap what they show.
func (p *produced) addEntry(node, media string, entry json.RawMessage, depth int) {
	var entries []json.RawMessage
	if depth < 3 && decode(entry, &entries) == nil && entries != nil {
		for _, one := range entries {
			p.addEntry(node, media, one, depth+1)
		}
		return
	}
	var file struct {
		Filename  text `json:"filename"`
		Subfolder text `json:"subfolder"`
		Type      text `json:"type"`
		Source    text `json:"source"`
		ID        text `json:"id"`
		Kind      text `json:"content-type"`
	}
	if decode(entry, &file) == nil && file.Filename != "" {
		p.addFile(Output{
			Node: node, Media: media, Filename: string(file.Filename), Subfolder: string(file.Subfolder),
			Type: cmp.Or(string(file.Type), "output"),
		}, false)
		return
	}
	if name, is := cachedFile(string(file.ID), string(file.Kind)); is && file.Source == "http" {
		p.addFile(Output{Node: node, Media: media, Filename: name, Type: workflow.CachedOutput}, false)
		return
	}
	var s text
	if media != "text" && media != "result" || decode(entry, &s) != nil || s == "" {
		return
	}
	if o, is := pathOutput(string(s)); media == "result" && is {
		o.Node, o.Media = node, media
		p.addFile(o, true)
		return
	}
	p.addText(node, string(s))
}

func (p *produced) addFile(o Output, guessed bool) {
	p.files, p.guessed = append(p.files, o), append(p.guessed, guessed)
}

func (p *produced) addText(node, s string) {
	room := maxText - p.size
	if room <= 0 {
		return
	}
	if p.texts == nil {
		p.texts = map[string][]string{}
	}
	s = clip(s, room)
	p.texts[node] = append(p.texts[node], s)
	p.size += len(s)
}

// fileExtension matches the ending of a file's name, and not that of a sentence, a version or a number.
var fileExtension = regexp.MustCompile(`^\.[A-Za-z][A-Za-z0-9]{1,7}$`)

// pathOutput reads "mesh/a.glb", "a.glb [temp]" and "temp/bg.png" as a file in one of ComfyUI's folders.
func pathOutput(s string) (o Output, is bool) {
	o.Type = "output"
	for _, kind := range kinds {
		if bare, marked := strings.CutSuffix(s, " ["+kind+"]"); marked {
			s, o.Type = bare, kind
		}
	}
	s = strings.ReplaceAll(s, `\`, "/")
	if len(s) > 1024 || strings.ContainsAny(s, "\r\n\t:*?\"<>|") || !fileExtension.MatchString(path.Ext(s)) {
		return Output{}, false
	}
	o.Subfolder, o.Filename = path.Split(s)
	o.Subfolder = strings.TrimSuffix(o.Subfolder, "/")
	return o, true
}

// compareNodes orders ids that are numbers by value and before the others.
func compareNodes(a, b string) int {
	m, errM := strconv.ParseUint(a, 10, 63)
	n, errN := strconv.ParseUint(b, 10, 63)
	switch {
	case errM == nil && errN == nil:
		return cmp.Or(cmp.Compare(m, n), cmp.Compare(a, b))
	case errM == nil:
		return -1
	case errN == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
