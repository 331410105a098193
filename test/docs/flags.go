package docs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// connection is the group of the flags that nearly every command has; they stand once, at the front.
const connection = "nats"

// Flags is the reference of a program: for each command its use and a table of its flags with their environment
// variables, values and defaults, as the tags of its grammar say them. Hidden ones are left out.
func Flags(root *kong.Node) string {
	var b strings.Builder
	shared := sharedFlags(root)
	if len(shared) > 0 {
		b.WriteString("### Connection to NATS\n\nCommands that take these say so.\n\n")
		table(&b, shared)
	}
	describe(&b, root, shared)
	return b.String()
}

func describe(b *strings.Builder, node *kong.Node, shared []*kong.Flag) {
	all := shown(node)
	own := slices.DeleteFunc(slices.Clone(all), func(flag *kong.Flag) bool { return isAmong(shared, flag) })
	if node.Parent == nil || len(all) > 0 || len(node.Children) == 0 {
		fmt.Fprintf(b, "### `%s`\n\n", use(node))
		if node.Parent != nil {
			fmt.Fprintf(b, "%s\n\n", paragraph(node.Help))
		}
		table(b, own)
	}
	if len(own) < len(all) {
		b.WriteString("And the flags of the connection.\n\n")
	}
	for _, child := range node.Children {
		if !child.Hidden {
			describe(b, child, shared)
		}
	}
}

// use is how a command is written.
func use(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name
	}
	words := []string{node.FullPath()}
	for _, argument := range node.Positional {
		words = append(words, argument.Summary())
	}
	return strings.Join(words, " ")
}

// sharedFlags are those of the connection that several commands have alike.
func sharedFlags(root *kong.Node) []*kong.Flag {
	var once, shared []*kong.Flag
	var walk func(*kong.Node)
	walk = func(node *kong.Node) {
		for _, flag := range shown(node) {
			switch {
			case flag.Group == nil || flag.Group.Key != connection || isAmong(shared, flag):
			case isAmong(once, flag):
				shared = append(shared, flag)
			default:
				once = append(once, flag)
			}
		}
		for _, child := range node.Children {
			walk(child)
		}
	}
	walk(root)
	return shared
}

func isAmong(flags []*kong.Flag, flag *kong.Flag) bool {
	return slices.ContainsFunc(flags, func(f *kong.Flag) bool {
		return f.Name == flag.Name && f.Help == flag.Help && daemon.Fallback(f.Value) == daemon.Fallback(flag.Value)
	})
}

func shown(node *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	for _, flag := range node.Flags {
		if flag.Name != "help" && !flag.Hidden {
			flags = append(flags, flag)
		}
	}
	return flags
}

func table(b *strings.Builder, flags []*kong.Flag) {
	if len(flags) == 0 {
		return
	}
	b.WriteString("| flag | variable | values | default | |\n|---|---|---|---|---|\n")
	for _, flag := range flags {
		fallback := daemon.Fallback(flag.Value)
		if flag.IsBool() {
			fallback = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", flagText(flag), variable(flag), daemon.Values(flag.Value), fallback, cellText(flag.Help))
	}
	b.WriteString("\n")
}

func flagText(flag *kong.Flag) string {
	text := "--" + flag.Name
	if flag.Short != 0 {
		text = "-" + string(flag.Short) + ", " + text
	}
	if !flag.IsBool() {
		text += "=" + strings.Trim(flag.FormatPlaceHolder(), `"`)
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

func variable(flag *kong.Flag) string {
	if len(flag.Envs) == 0 {
		return ""
	}
	return "`" + flag.Envs[0] + "`"
}

// paragraph is a help text in one line, in which a placeholder such as <id> is not read as HTML.
func paragraph(help string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(help), " "), "<", "&lt;")
}

func cellText(s string) string { return strings.ReplaceAll(paragraph(s), "|", `\|`) }
