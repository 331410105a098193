package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/job"
)

// ConfigFlag is the flag of a program that names a file with values of its flags; a grammar embeds it at its root.
//
// The file is one JSON object. A key is the name of a flag and applies to each command that has this flag; a key that is the name of a
// command has an object with the values for that command alone. A value is a text, a number, true or false, or a list of them where the
// flag is repeatable. A flag on the command line and an environment variable win over the file. It is JSON because the standard
// library reads it: another notation would be a further dependency of every program.
type ConfigFlag struct {
	Config string `name:"config" placeholder:"FILE" type:"path" help:"JSON file with values of flags, as {\"nats-url\": \"nats://10.0.0.1:4222\"}. Flags and variables win."`
}

// configError is an error of the file.
type configError struct{ error }

// configFile gives kong the values of the file.
type configFile struct {
	of     *kong.Context // the command line for which the file was read
	values map[string]any
}

// Validate is called by kong; everything is checked when the file is read.
func (*configFile) Validate(*kong.Application) error { return nil }

// Resolve gives the file's value of a flag, and nil where there is none or something else wins.
func (f *configFile) Resolve(line *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if f.of != line {
		values, err := readConfig(line)
		if err != nil {
			return nil, &configError{err}
		}
		f.of, f.values = line, values
	}
	for _, name := range flag.Envs {
		if os.Getenv(name) != "" {
			return nil, nil //nolint:nilnil // kong's way to say that nothing is given
		}
	}
	value := f.values[flag.Name]
	if _, other := value.(map[string]any); other { // of a command with the name of a flag
		value = nil
	}
	if own, given := ownValue(line.Selected(), f.values, flag.Name); given {
		value = own
	}
	return asText(value), nil
}

// ownValue is the value that the file gives for one command; for a command within another, the value of the inner command.
func ownValue(command *kong.Node, values map[string]any, flag string) (value any, given bool) {
	var names []string
	for ; command != nil && command.Parent != nil; command = command.Parent {
		names = append(names, command.Name)
	}
	for _, name := range slices.Backward(names) {
		values, _ = values[name].(map[string]any)
		if own, is := values[flag]; is {
			if _, deeper := own.(map[string]any); !deeper {
				value, given = own, true
			}
		}
	}
	return value, given
}

// asText makes a number the text that a flag reads.
func asText(value any) any {
	switch v := value.(type) {
	case json.Number:
		return v.String()
	case []any:
		texts := make([]any, len(v))
		for i := range v {
			texts[i] = asText(v[i])
		}
		return texts
	}
	return value
}

// readConfig reads the file that the command line or the environment names; nil when neither does.
func readConfig(line *kong.Context) (map[string]any, error) {
	path := ""
	for _, flag := range line.Model.Flags {
		if flag.Name != "config" {
			continue
		}
		path, _ = line.FlagValue(flag).(string)
	}
	if path == "" {
		return nil, nil //nolint:nilnil // no file is a file without values
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	values := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return nil, fmt.Errorf(`--config %s is no JSON object such as {"nats-url": "nats://10.0.0.1:4222"}: %w`, path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("--config %s has something after its JSON object; remove it", path)
	}
	if err := checkKeys(line.Model.Node, values, ""); err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	return values, nil
}

// checkKeys refuses a key that is the name of no flag and no command, and says what may have been meant.
func checkKeys(node *kong.Node, values map[string]any, where string) error {
	flags := map[string]bool{}
	namesOf(node, flags)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		section, deeper := values[key].(map[string]any)
		child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == key && !n.Hidden })
		switch {
		case deeper && child >= 0:
			if err := checkKeys(node.Children[child], section, key+"."); err != nil {
				return err
			}
		case deeper && flags[key]:
			return fmt.Errorf("%s%s is a flag, and its value cannot be an object", where, key)
		case !deeper && flags[key] && values[key] != nil:
		case !deeper && flags[key]:
			return fmt.Errorf("%s%s is null; leave it out, or give it a value", where, key)
		default:
			known := slices.Sorted(maps.Keys(flags))
			for _, n := range node.Children {
				known = append(known, n.Name)
			}
			meant := ""
			if near := job.Nearest(key, known); near != "" {
				meant = fmt.Sprintf("; did you mean %q?", near)
			}
			return fmt.Errorf("no flag or command is named %q%s", where+key, meant)
		}
	}
	return nil
}

// namesOf collects the names of all flags of a command and of those below it. Flags that only print something, such as --help, are
// left out.
func namesOf(node *kong.Node, names map[string]bool) {
	for _, flag := range node.Flags {
		if flag.Name != "help" && flag.Name != "version" && flag.Name != "config" {
			names[flag.Name] = true
		}
	}
	for _, child := range node.Children {
		namesOf(child, names)
	}
}
