// Package docs reads the project's documentation, so that tests can hold it against the code.
//
// Guarantee: what it finds is what a reader sees: fenced blocks, tables below their marker, code in the text, and the
// command lines in both. The tests beside it, and those of the commands, say what must be true of that.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Pages gives the README and every page of the folder docs of the repository at root, by path from root.
func Pages(root string) (map[string]string, error) {
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, fmt.Errorf("list the pages of %s: %w", root, err)
	}
	pages := map[string]string{}
	for _, name := range append(names, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		from, err := filepath.Rel(root, name)
		if err != nil {
			return nil, fmt.Errorf("name page: %w", err)
		}
		pages[filepath.ToSlash(from)] = string(text)
	}
	return pages, nil
}

// Fenced gives the fenced blocks of a language, without the fences.
func Fenced(page, language string) []string {
	var blocks []string
	block, inside, wanted := "", false, false
	for line := range strings.Lines(page) {
		info, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && !inside:
			block, inside, wanted = "", true, info == language
		case fence:
			if wanted {
				blocks = append(blocks, block)
			}
			inside = false
		case inside:
			block += line
		}
	}
	return blocks
}

// Languages counts the fenced blocks of a page by the language that is written behind the fence.
func Languages(page string) map[string]int {
	found, inside := map[string]int{}, false
	for line := range strings.Lines(page) {
		info, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		if fence && !inside {
			found[info]++
		}
		inside = inside != fence
	}
	return found
}

// Prose is a page without its fenced blocks.
func Prose(page string) string {
	var prose strings.Builder
	inside := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside = !inside
		} else if !inside {
			prose.WriteString(line)
		}
	}
	return prose.String()
}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

// Code gives what stands between backticks in a text without fenced blocks.
func Code(text string) []string {
	var found []string
	for _, match := range codeSpan.FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// Row is a line of a table, cell by cell.
type Row []string

// Table gives the rows, without head and rule, of the table that follows the line <!-- marker -->; none when there is
// no such table.
func Table(page, marker string) []Row {
	_, rest, found := strings.Cut(page, "<!-- "+marker+" -->\n")
	if !found {
		return nil
	}
	var rows []Row
	for line := range strings.Lines(strings.TrimLeft(rest, "\n")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows = append(rows, cells(line))
	}
	if len(rows) < 3 {
		return nil
	}
	return rows[2:]
}

// cells takes a line of a table apart; \| is no border.
func cells(line string) Row {
	line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
	var row Row
	for cell := range strings.SplitSeq(line, "|") {
		row = append(row, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
	}
	return row
}

// Marked gives the text between <!-- marker --> and the next empty line.
func Marked(page, marker string) string {
	_, rest, _ := strings.Cut(page, "<!-- "+marker+" -->\n")
	text, _, _ := strings.Cut(strings.TrimLeft(rest, "\n"), "\n\n")
	return text
}

// Markers gives what stands in all comments of one kind, <!-- kind: name -->.
func Markers(page, kind string) []string {
	var names []string
	for _, match := range regexp.MustCompile(`<!-- `+kind+`: (\S+) -->`).FindAllStringSubmatch(page, -1) {
		names = append(names, match[1])
	}
	return names
}

// ReplaceGenerated puts text between the lines <!-- generated: name … --> and <!-- end: name -->.
func ReplaceGenerated(page, name, text string) (string, error) {
	begin := regexp.MustCompile(`<!-- generated: ` + name + `[^>]*-->\n`).FindStringIndex(page)
	end := strings.Index(page, "<!-- end: "+name+" -->")
	if begin == nil || end < begin[1] {
		return "", fmt.Errorf("the page has no place for the generated part %s", name)
	}
	return page[:begin[1]] + "\n" + strings.TrimSpace(text) + "\n\n" + page[end:], nil
}

// Anchors are those that GitHub gives the headings of a page.
func Anchors(page string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(Prose(page)) {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		heading, isHeading := strings.CutPrefix(line[level:], " ")
		if level == 0 || level > 6 || !isHeading {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading))
		again := anchor
		for n := 1; found[again]; n++ {
			again = fmt.Sprintf("%s-%d", anchor, n)
		}
		found[again] = true
	}
	return found
}
