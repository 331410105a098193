package docs

import (
	"regexp"
	"strings"
)

// Commands gives every use of a program on a page, in blocks of sh and in the text, as its arguments. A use without
// arguments is only its name.
func Commands(page, program string) [][]string {
	var found [][]string
	lines := Code(Prose(page))
	for _, block := range Fenced(page, "sh") {
		lines = append(lines, strings.Split(block, "\n")...)
	}
	for _, line := range lines {
		for _, words := range Shell(line) {
			if words[0] == program && len(words) > 1 {
				found = append(found, words[1:])
			}
		}
	}
	return found
}

var assignment = regexp.MustCompile(`^[A-Z_]+=`)

// Shell takes a line of a shell apart: its commands, each as words without variables set before it. It knows quotes,
// comments, pipes and &&, and leaves $(…) inside double quotes alone.
func Shell(line string) [][]string {
	var commands [][]string
	var words []string
	end := func() {
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimLeft(rest, " ") {
		var word string
		word, rest = firstWord(rest)
		if strings.HasPrefix(word, "#") {
			break
		}
		if word == "|" || word == "&&" {
			end()
			continue
		}
		words = append(words, word)
	}
	end()
	return commands
}

// firstWord takes a word off the front, without its quotes.
func firstWord(line string) (word, rest string) {
	var b strings.Builder
	quote := rune(0)
	for i, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && c == ' ':
			return b.String(), line[i:]
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), ""
}
