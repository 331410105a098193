package internal_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
)

// lists are the rooms whose package comment is a list of their files, for somebody who looks for a place.
var lists = []string{"internal/dispatcher", "internal/agent", "internal/outside", "internal/natsserver", "internal/route", "internal/job"}

var fileName = regexp.MustCompile(`\b[a-z0-9_]+\.go\b`)

// listProblems finds files that the list of their room does not name, and names of files that do not exist.
func listProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		if f.ast.Doc == nil || path.Base(f.path) != "doc.go" || !slices.Contains(lists, f.dir) {
			continue
		}
		named := fileName.FindAllString(f.ast.Doc.Text(), -1)
		for _, other := range t.files {
			base := path.Base(other.path)
			if other.dir == f.dir && !other.test && base != "doc.go" && !slices.Contains(named, base) {
				problems = append(problems, fmt.Sprintf("%s: does not stand in the list of %s; say in a few words what it is for", other.path, f.path))
			}
		}
		for _, name := range named {
			if !slices.ContainsFunc(t.files, func(o goFile) bool { return path.Base(o.path) == name }) {
				problems = append(problems, fmt.Sprintf("%s: names %s, which does not exist", f.path, name))
			}
		}
	}
	return problems
}
