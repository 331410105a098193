package comfy

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// Output is one file that a node left on the host.
type Output struct {
	Node      string // id of the graph node
	Media     string // its key in the node's output: images, gifs, audio, video, 3d …
	Filename  string
	Subfolder string
	Type      string // output, temp or input: the folder that Subfolder is in
}

// maxText bounds the bytes of one node's texts in a Result.
const maxText = 64 << 10

// produced is what the nodes of one prompt left: files and texts.
type produced struct {
	files []Output
	texts map[string][]string
}

// readOutputs reads {node: {media: [entry, …]}}: every entry with a filename
// is a file, every string or number under "text" a text; all else (animated: [true],
// counters, previews of other kinds) is passed over. Files are ordered by node
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
		var entries []json.RawMessage
		if decode(media[key], &entries) != nil {
			continue
		}
		for _, entry := range entries {
			p.addEntry(node, key, entry)
		}
	}
}

func (p *produced) addEntry(node, media string, entry json.RawMessage) {
	var file struct {
		Filename  text `json:"filename"`
		Subfolder text `json:"subfolder"`
		Type      text `json:"type"`
	}
	if decode(entry, &file) == nil && file.Filename != "" {
		p.files = append(p.files, Output{
			Node: node, Media: media, Filename: string(file.Filename), Subfolder: string(file.Subfolder),
			Type: cmp.Or(string(file.Type), "output"),
		})
		return
	}
	var s text
	if media != "text" || decode(entry, &s) != nil || s == "" {
		return
	}
	if p.texts == nil {
		p.texts = map[string][]string{}
	}
	room := maxText
	for _, earlier := range p.texts[node] {
		room -= len(earlier)
	}
	if room > 0 {
		p.texts[node] = append(p.texts[node], clip(string(s), room))
	}
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
