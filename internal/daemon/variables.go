package daemon

import (
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Variables gives every flag of a command line without a variable of its own COMFYHERD_<FLAG>. An empty variable is as
// good as none, since compose files and service units set such.
func Variables(node *kong.Node) {
	for _, flag := range node.Flags {
		switch {
		case flag.Name == "help" || len(flag.Envs) == 1 && flag.Envs[0] == "-":
			flag.Envs = nil
		case len(flag.Envs) == 0:
			flag.Envs = []string{"COMFYHERD_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
		}
		flag.Tag.Envs = nil // what is read
		for _, env := range flag.Envs {
			if os.Getenv(env) != "" {
				flag.Tag.Envs = append(flag.Tag.Envs, env)
			}
		}
	}
	for _, child := range node.Children {
		Variables(child)
	}
}

// HelpText is a flag's help with its variable.
func HelpText(value *kong.Value) string {
	if value.Flag == nil || len(value.Flag.Envs) == 0 {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + value.Flag.Envs[0] + ")."
}
