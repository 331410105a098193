package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// completionCmd prints what a shell needs to complete command lines. It is made from the grammar of the command line.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown after the flags.
func (*completionCmd) Help() string {
	return `Commands, flags and the values of flags with a fixed set are completed; everything else as files.

Examples:
  source <(dispatcher completion bash)
  dispatcher completion zsh > ~/.zfunc/_dispatcher
  dispatcher completion fish > ~/.config/fish/completions/dispatcher.fish`
}

// Run prints the script.
func (p *completionCmd) Run(c *daemon.Console, line *kong.Kong) error {
	script, branch := bashScript, "    %q) %s ;;\n"
	assign := `offer="%s"`
	deeper := `place="$place $word"`
	switch p.Shell {
	case "zsh":
		script = zshScript
	case "fish":
		script, branch = fishScript, "    case %q\n      %s\n"
		assign, deeper = `set offer "%s"`, `set place "$place $word"`
	}
	var places, words, values strings.Builder
	for _, here := range placesOf(line.Model.Node, "") {
		if here.path != "" {
			fmt.Fprintf(&places, branch, here.path, deeper)
		}
		fmt.Fprintf(&words, branch, here.path, fmt.Sprintf(assign, strings.Join(here.words, " ")))
		for _, v := range here.values {
			fmt.Fprintf(&values, branch, here.path+" "+v.flag, fmt.Sprintf(assign, strings.Join(v.values, " ")))
		}
	}
	_, err := strings.NewReplacer("@PLACES@\n", places.String(), "@OFFERS@\n", words.String(), "@VALUES@\n", values.String()).WriteString(c.Out, script)
	return err
}

// place is a point of a command line after the words of a command, as " hosts drain", and what may follow there.
type place struct {
	path   string
	words  []string // commands and flags
	values []fixedValues
}

// fixedValues are all that a flag takes.
type fixedValues struct {
	flag   string
	values []string
}

// placesOf gives the places of a command and of those below it. A flag of a command may also come after its commands.
func placesOf(node *kong.Node, path string, outer ...*kong.Flag) []place {
	here := place{path: path}
	flags := slices.Concat(outer, node.Flags)
	var below []place
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		here.words = append(here.words, child.Name)
		below = append(below, placesOf(child, path+" "+child.Name, flags...)...)
	}
	if node.DefaultCmd != nil {
		flags = slices.Concat(flags, node.DefaultCmd.Flags)
	}
	for _, arg := range node.Positional {
		if arg.Enum != "" {
			here.words = append(here.words, arg.EnumSlice()...)
		}
	}
	for _, flag := range flags {
		name := "--" + flag.Name
		if flag.Hidden || slices.Contains(here.words, name) {
			continue
		}
		here.words = append(here.words, name)
		if all := flag.Tag.Get("oneof") + flag.Enum; all != "" {
			here.values = append(here.values, fixedValues{name, strings.Split(all, ",")})
		}
	}
	return append([]place{here}, below...)
}

const bashScript = `# Completion of dispatcher for bash; made by: dispatcher completion bash
_dispatcher() {
  local place="" word offer="" last="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    last="$word"
    case "$place $word" in
@PLACES@
    esac
  done
  case "$place" in
@OFFERS@
  esac
  case "$place $last" in
@VALUES@
  esac
  COMPREPLY=($(compgen -W "$offer" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _dispatcher dispatcher
`

const zshScript = `#compdef dispatcher
# Completion of dispatcher for zsh; made by: dispatcher completion zsh
_dispatcher() {
  local place="" word offer="" last="" i
  for ((i = 2; i < CURRENT; i++)); do
    word="${words[i]}"
    last="$word"
    case "$place $word" in
@PLACES@
    esac
  done
  case "$place" in
@OFFERS@
  esac
  case "$place $last" in
@VALUES@
  esac
  compadd -- ${=offer}
  _files
}
if [ "$funcstack[1]" = "_dispatcher" ]; then
  _dispatcher
else
  compdef _dispatcher dispatcher
fi
`

const fishScript = `# Completion of dispatcher for fish; made by: dispatcher completion fish
function __dispatcher_offer
  set -l place ""
  set -l last ""
  set -l offer ""
  set -l before (commandline -opc)
  for word in $before[2..-1]
    set last $word
    switch "$place $word"
@PLACES@
    end
  end
  switch "$place"
@OFFERS@
  end
  switch "$place $last"
@VALUES@
  end
  string split " " -- $offer
end
complete -c dispatcher -a "(__dispatcher_offer)"
`

// helpCmd shows the help of a command; run turns it into that command with --help.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"Words of the command, as hosts drain."`
}

// Help is shown after the flags.
func (*helpCmd) Help() string {
	return `Examples:
  dispatcher help
  dispatcher help hosts drain`
}

// Run is never reached.
func (*helpCmd) Run() error { return nil }

// asksForHelp turns "help hosts drain" into "hosts drain --help".
func asksForHelp(args []string) []string {
	if len(args) == 0 {
		return []string{"--help"}
	}
	if args[0] != "help" || slices.Contains(args, "--help") {
		return args
	}
	return append(slices.Clone(args[1:]), "--help")
}
