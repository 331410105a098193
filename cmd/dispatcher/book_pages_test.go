//go:build unix && !race

package main_test

// reading are the pages that have blocks of console, in the order in which they run. The guide comes first: it starts the
// fleet that all of them share.
var reading = []string{"docs/guide.md", "docs/README.md", "docs/commands.md", "docs/troubleshooting.md", "docs/patterns.md"}
