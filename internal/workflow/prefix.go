package workflow

import (
	"bytes"
	"slices"
	"strconv"
)

const (
	// joining is the class of ComfyUI's own that puts two texts together.
	joining = "StringConcatenate"
	// addedID begins the ids of nodes that are added.
	addedID = "comfyherd-prefix-"
	// unlinkedName is the name of files whose own is not known: ComfyUI's default.
	unlinkedName = "ComfyUI"
)

// prefixLink puts the prefix before a file name that another node makes. Without
// it a node that ComfyUI has cached would name the file of an earlier prompt.
func (w *writer) prefixLink(n *node, value int32) {
	if !w.maySave(value) {
		return
	}
	if w.p.Has == nil || !w.p.Has(joining) {
		w.replace(value, w.prefixed([]byte(unlinkedName)))
		w.unlinked = append(w.unlinked, w.idOf(n))
		return
	}
	id := w.unusedID()
	b := appendJSON(append(w.additions, ','), id)
	b = appendJSON(append(b, `:{"class_type":"`+joining+`","inputs":{"string_a":`...), w.p.Prefix+"/")
	b = append(append(b, `,"string_b":`...), w.src[w.start(value):w.end(value)]...)
	w.additions = append(b, `,"delimiter":""}}`...)
	w.added = append(w.added, id)
	w.replace(value, append(appendJSON(append(w.texts, '['), id), ",0]"...))
}

// maySave says whether the text that a link brings may stay inside of the
// output folder: it does not when the node that is linked to holds another one.
func (w *writer) maySave(link int32) bool {
	source := w.lookup(w.text(link + 1))
	for _, in := range w.inputsOf(&w.nodes[source]) {
		if at := in.value(); w.kind(at) == kindString && string(w.name(in)) == "value" && !staysInside(w.text(at)) {
			return false
		}
	}
	return true
}

// unusedID is the id of the next node that is added.
func (w *writer) unusedID() string {
	for n := 1; ; n++ {
		id := addedID + strconv.Itoa(n)
		if w.lookup([]byte(id)) < 0 && !slices.Contains(w.added, id) {
			return id
		}
	}
}

// append adds the new nodes after all others.
func (w *writer) append() {
	if len(w.additions) > 0 {
		end := int32(bytes.LastIndexByte(w.src, '}'))
		w.put(end, end, append(w.texts, w.additions...))
	}
}
