package daemon

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Limits checks the flags of a command line; a grammar embeds it. Beside kong's own tags (default, enum) it reads
//
//	unset:"30s"       text for people: what holds while a flag without a default is not given
//	range:"1..100"    the least and the most value of a number, a duration or a size, in its own notation; one may be left out
//	oneof:"1,3,5"     all values of a flag that may also be left out
//
// Help, the reference of flags (docs/configuration.md) and the check all use these tags.
type Limits struct{}

// Validate is called by kong when a line was read.
func (Limits) Validate(line *kong.Context) error {
	for _, flag := range line.Flags() {
		if flag.Target.IsZero() && !flag.HasDefault { // not given
			continue
		}
		if err := checkFlag(flag); err != nil {
			return err
		}
	}
	return nil
}

func checkFlag(flag *kong.Flag) error {
	value := reflect.Indirect(flag.Target)
	if all := flag.Tag.Get("oneof"); all != "" && !slices.Contains(strings.Split(all, ","), fmt.Sprint(value)) {
		return fmt.Errorf("--%s=%v is not possible; give %s", flag.Name, value, Values(flag.Value))
	}
	low, high, err := bounds(flag.Value)
	if err != nil {
		return err
	}
	if low.IsValid() && !notBelow(value, low) || high.IsValid() && !notBelow(high, value) {
		return fmt.Errorf("--%s=%v is out of range; give %s", flag.Name, value, Values(flag.Value))
	}
	return nil
}

// bounds reads the tag range; a bound that it leaves out is the invalid value.
func bounds(value *kong.Value) (low, high reflect.Value, err error) {
	from, to, _ := strings.Cut(value.Tag.Get("range"), "..")
	for text, bound := range map[string]*reflect.Value{from: &low, to: &high} {
		if text == "" {
			continue
		}
		read := reflect.New(value.Target.Type()).Elem()
		token := kong.Token{Type: kong.FlagValueToken, Value: text}
		if err := value.Mapper.Decode(&kong.DecodeContext{Value: value, Scan: kong.ScanFromTokens(token)}, read); err != nil {
			return low, high, fmt.Errorf("the range of --%s: %w", value.Name, err)
		}
		*bound = reflect.Indirect(read)
	}
	return low, high, nil
}

// notBelow says that a is at least b; NaN is neither.
func notBelow(a, b reflect.Value) bool {
	switch {
	case a.CanFloat():
		return a.Float() >= b.Float()
	case a.CanUint():
		return a.Uint() >= b.Uint()
	}
	return a.CanInt() && a.Int() >= b.Int()
}

// Fallback is what holds while a flag is not given: its default, or what its tag unset says.
func Fallback(value *kong.Value) string {
	if value.HasDefault {
		return value.Default
	}
	return value.Tag.Get("unset")
}

// Values says which values a flag takes, as in "1 to 100", "1s or more" or "store or none"; empty when no tag says it.
func Values(value *kong.Value) string {
	if all := value.Tag.Get("oneof") + value.Enum; all != "" {
		return alternatives(strings.Split(all, ","))
	}
	from, to, _ := strings.Cut(value.Tag.Get("range"), "..")
	switch {
	case from != "" && to != "":
		return from + " to " + to
	case from != "":
		return from + " or more"
	case to != "":
		return "at most " + to
	}
	return ""
}

func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// HelpText is a flag's help with its values, its default and its variable.
func HelpText(value *kong.Value) string {
	var notes []string
	if values := Values(value); values != "" {
		notes = append(notes, values)
	}
	if fallback := Fallback(value); fallback != "" && value.Flag != nil && !value.IsBool() {
		notes = append(notes, "default: "+fallback)
	}
	if value.Flag != nil && len(value.Flag.Envs) > 0 {
		notes = append(notes, "$"+value.Flag.Envs[0])
	}
	if len(notes) == 0 {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " (" + strings.Join(notes, "; ") + ")."
}

// nameVariables gives every flag without a variable of its own COMFYHERD_<FLAG>. An empty variable counts as unset, since
// compose files and service units set such.
func nameVariables(node *kong.Node) {
	for _, flag := range node.Flags {
		switch {
		case flag.Name == "help" || len(flag.Envs) == 1 && flag.Envs[0] == "-":
			flag.Envs = nil
		case len(flag.Envs) == 0:
			flag.Envs = []string{"COMFYHERD_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
		}
		flag.Tag.Envs = nil // those that kong reads
		for _, env := range flag.Envs {
			if os.Getenv(env) != "" {
				flag.Tag.Envs = append(flag.Tag.Envs, env)
			}
		}
	}
	for _, child := range node.Children {
		nameVariables(child)
	}
}
