package workflow

import (
	"strings"
)

// NamesJobFile finds a text in the workflow that names a file below a folder whose files
// belong to single jobs: one that begins with the folder's name and a slash, or
// has both before a UUID anywhere. It takes paths as Linux and Windows do, which
// reads COMFYHERD. and COMFYH~1 as comfyherd. Texts of a filename_prefix that
// Prepare puts a prefix before are no such names, nor is what except says of a
// node and an input.
func (g *Graph) NamesJobFile(folder string, except func(node, input string) bool) (node, input string, found bool) {
	for i := range g.nodes {
		n := &g.nodes[i]
		for _, in := range g.inputsOf(n) {
			if !g.isJobFile(in, folder) {
				continue
			}
			node, input = g.idOf(n), string(g.name(in))
			if except == nil || !except(node, input) {
				return node, input, true
			}
		}
	}
	return "", "", false
}

// isJobFile reports whether a text in the value of an input, however deep, names such a file.
func (g *Graph) isJobFile(in member, folder string) bool {
	value := in.value()
	if g.kind(value) == kindString && string(g.name(in)) == "filename_prefix" && staysInside(g.text(value)) {
		return false
	}
	for at := value; at < g.next(value); at++ {
		if g.kind(at) == kindString && hasSlash(g.inside(at)) && isJobPath(string(g.text(at)), folder) {
			return true
		}
	}
	return false
}

func isJobPath(path, folder string) bool {
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	begins := true
	for i, segment := range segments[:max(len(segments), 1)-1] {
		if isFolder(segment, folder) && (begins || isUUID([]byte(strings.TrimRight(segments[i+1], ". ")))) {
			return true
		}
		begins = begins && strings.Trim(segment, ". ") == ""
	}
	return false
}

// isFolder compares names as Windows does: without case, dots and spaces at the end, a stream's name, and with the short
// form that it gives to long names.
func isFolder(name, folder string) bool {
	name, _, _ = strings.Cut(strings.TrimLeft(name, " "), ":")
	name = strings.TrimRight(name, ". ")
	if short, _, found := strings.Cut(name, "~"); found && len(short) >= 2 {
		return len(short) < len(folder) && strings.EqualFold(short, folder[:len(short)])
	}
	return strings.EqualFold(name, folder)
}
