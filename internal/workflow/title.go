package workflow

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// titleMost is how many characters a title has at most.
const titleMost = 80

// Title names a workflow for people: its main model and what it makes, such as
// "sd_xl_base_1.0, image to video". It is derived from the graph alone, and two
// workflows may have the same title.
func (g *Graph) Title() string {
	makes := g.makes()
	if g.takesImage() && makes != "" {
		makes = "image to " + makes
	}
	model := shorten(g.mainModel())
	switch {
	case model == "":
		return makes
	case makes == "":
		return model
	}
	return model + ", " + makes
}

// mainInputs are the names of inputs that load the model which makes the picture, the most telling first.
var mainInputs = []string{"ckpt_name", "unet_name", "model_path", "model_name", "model"}

// mainModel returns the file that the workflow is known by: a checkpoint or
// diffusion model before all others, and of several the first by node.
func (g *Graph) mainModel() string {
	best, found := len(mainInputs)+1, ""
	for i := range g.nodes {
		for _, in := range g.inputsOf(&g.nodes[i]) {
			name := string(g.name(in))
			rank := slices.Index(mainInputs, name)
			if rank < 0 {
				rank = len(mainInputs)
			}
			if rank >= best {
				continue
			}
			g.eachModel(in.value(), nil, func(_ int32, _, file []byte) {
				if rank < best {
					best, found = rank, string(file)
				}
			})
		}
	}
	base := path.Base(found)
	if found == "" {
		return ""
	}
	return strings.TrimSuffix(base, path.Ext(base))
}

// products are words in the classes of output nodes, and what such nodes make. The first that fits counts.
var products = []struct{ word, makes string }{
	{"video", "video"}, {"webm", "video"}, {"animated", "video"}, {"vhs_", "video"}, {"gif", "video"},
	{"audio", "audio"}, {"glb", "3d"}, {"3d", "3d"}, {"mesh", "3d"}, {"image", "image"}, {"text", "text"},
}

// makes says what the workflow makes, by the classes of the nodes that store or
// show something; "" when none of them tells.
func (g *Graph) makes() string {
	found := len(products)
	for i := range g.nodes {
		class := lower(make([]byte, 0, 64), g.text(g.nodes[i].class))
		if !contains(class, "save", "preview", "combine", "export") {
			continue
		}
		for k, p := range products[:found] {
			if contains(class, p.word) {
				found = k
				break
			}
		}
	}
	if found == len(products) {
		return ""
	}
	return products[found].makes
}

// takesImage says whether a node loads a picture.
func (g *Graph) takesImage() bool {
	for i := range g.nodes {
		if strings.HasPrefix(string(g.text(g.nodes[i].class)), "LoadImage") {
			return true
		}
	}
	return false
}

// shorten leaves out what cannot be printed, and what is too long for a title.
func shorten(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	const most = titleMost - len(", image to image")
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return s
}
