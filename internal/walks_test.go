package internal_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A row of a walk names a file and functions in it.
var (
	walkRow  = regexp.MustCompile("(?m)^\\| `([^`]+\\.go)` \\| ((?:`\\w+`(?:, )?)+) \\|")
	walkName = regexp.MustCompile("`(\\w+)`")
)

// walkProblems finds files and functions of docs/architecture.md that the tree does not have.
func walkProblems(t tree) []string {
	var problems []string
	rows := walkRow.FindAllStringSubmatch(t.walks, -1)
	for _, row := range rows {
		at := slices.IndexFunc(t.files, func(f goFile) bool { return f.path == row[1] })
		if at < 0 {
			problems = append(problems, fmt.Sprintf("%s: does not exist; docs/architecture.md names it", row[1]))
			continue
		}
		var there []string
		for _, fn := range t.files[at].functions() {
			there = append(there, fn.Name.Name)
		}
		for _, name := range walkName.FindAllStringSubmatch(row[2], -1) {
			if !slices.Contains(there, name[1]) {
				problems = append(problems, fmt.Sprintf("%s: has no function %s; docs/architecture.md names it", row[1], name[1]))
			}
		}
	}
	if named := strings.Count(t.walks, "\n| `"); len(rows) == 0 && named > 0 {
		problems = append(problems, "docs/architecture.md: has no walk that can be read")
	}
	return problems
}
