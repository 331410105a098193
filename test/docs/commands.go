package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Commands gives every use of a program in the blocks of sh, bash and console on a page, as its arguments.
func Commands(page, program string) [][]string {
	var lines []string
	for _, step := range Console(page) {
		if !strings.ContainsAny(step.Command, "\n$") { // scripts are only run
			lines = append(lines, step.Command)
		}
	}
	for _, block := range append(Fenced(page, "sh"), Fenced(page, "bash")...) {
		lines = append(lines, strings.Split(block, "\n")...)
	}
	return uses(lines, program)
}

// Mentions gives every use of a program between backticks, in the text and in remarks within blocks. Values may be
// left out or stand for others there.
func Mentions(page, program string) [][]string {
	text := Prose(page)
	for _, block := range Fenced(page, "sh") {
		text += block
	}
	return uses(Code(text), program)
}

func uses(lines []string, program string) [][]string {
	var found [][]string
	for _, line := range lines {
		for _, words := range Shell(line) {
			if at := slices.IndexFunc(words, redirects); at >= 0 {
				words = words[:at]
			}
			if len(words) > 1 && words[0] == program {
				found = append(found, words[1:])
			}
		}
	}
	return found
}

func redirects(word string) bool {
	return word == ">" || word == "<" || strings.HasPrefix(word, "2>")
}

// Exists says which command or flag of a mention a program does not have.
func Exists(node *kong.Node, args []string) error {
	flags := slices.Clone(node.Flags)
	for _, word := range args {
		name, long := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		child := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == word })
		switch {
		case long && !slices.ContainsFunc(flags, func(f *kong.Flag) bool { return f.Name == name }):
			return fmt.Errorf("%s has no flag --%s", node.FullPath(), name)
		case child >= 0:
			node = node.Children[child]
			flags = append(flags, node.Flags...)
			if node.DefaultCmd != nil {
				flags = append(flags, node.DefaultCmd.Flags...)
			}
		case !long && node.Parent == nil && node.DefaultCmd == nil:
			return fmt.Errorf("%s has no command %s", node.Name, word)
		}
	}
	return nil
}

var assignment = regexp.MustCompile(`^[A-Z_]+=`)

// Shell takes a line of a shell apart: its commands, each as words without variables set before it. It knows quotes,
// comments, pipes, && and &, and leaves $(…) inside double quotes alone.
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
		if word == "|" || word == "&&" || word == "&" {
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
