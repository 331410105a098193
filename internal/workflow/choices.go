package workflow

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	// maxChoices keeps a host's set under 100 kB: beyond it the longest lists of
	// choices that are no files are left out whole.
	maxChoices = (100_000 - len(capabilityMagic)) / 8
	// maxFiles keeps a set of classes and files below the 1 MiB of a NATS
	// message: beyond it the longest lists of files are left out whole.
	maxFiles = 120_000
	// maxValues bounds what is read.
	maxValues = maxFiles
	// maxChoice is the longest choice that is kept, in bytes; none has
	// several lines.
	maxChoice = 255
)

// CapabilityBuilder collects the names of a Capability. The zero value is
// ready; it is not safe for concurrent use.
type CapabilityBuilder struct {
	classes []uint64
	files   map[uint64][]uint64 // key of an enumerated input → keys of the model files in its list
	choices map[uint64][]uint64 // list key of an input → keys of its choices that are no files
}

// AddClass says that the host has a node class.
func (b *CapabilityBuilder) AddClass(class string) {
	b.classes = append(b.classes, classKey(class))
}

// AddChoices says that the host enumerates an input of a class, and that these
// are its choices, in the host's own spelling; of booleans true is 1 and false 0.
// An input without any choice takes nothing.
func (b *CapabilityBuilder) AddChoices(class, input string, texts []string, numbers ...float64) {
	b.AddFiles(class, input, texts)
	if b.choices == nil {
		b.choices = map[uint64][]uint64{}
	}
	list := listKey(class, input)
	values := b.choices[list]
	for _, choice := range texts {
		if isChoice([]byte(choice)) && !isModel([]byte(choice)) {
			values = append(values, textKey(class, input, slashed(choice)))
		}
	}
	for _, choice := range numbers {
		if !math.IsNaN(choice) {
			values = append(values, numberKey(class, input, choice))
		}
	}
	b.choices[list] = values
}

// AddFiles is AddChoices of an input that takes more than it lists, such as the
// picture of LoadImage, which may be uploaded later: only its model files are
// kept.
func (b *CapabilityBuilder) AddFiles(class, input string, choices []string) {
	if b.files == nil {
		b.files = map[uint64][]uint64{}
	}
	list := inputKey(class, input)
	values := b.files[list]
	for _, file := range choices {
		if isModel([]byte(file)) {
			values = append(values, fileKey(class, input, slashed(file)))
		}
	}
	b.files[list] = values
}

// NewCapability returns the set of what was added to b so far. b may be used further.
//
// A list that would make the set too large is left out whole, and its input
// counts as not enumerated, so that the host counts as capable of every value: choices that
// are no files where the set would pass 100 kB, files where it would pass 1 MB.
// The longest lists go first.
func NewCapability(b *CapabilityBuilder) Capability {
	set := compact(slices.Clone(b.classes))
	set = appendLists(set, b.files, maxFiles)
	return newCapability(compact(appendLists(set, b.choices, maxChoices)))
}

func compact(values []uint64) []uint64 {
	slices.Sort(values)
	return slices.Compact(values)
}

// appendLists adds each list with its key to a set, the shortest first, as long
// as the set has at most so many values.
func appendLists(set []uint64, lists map[uint64][]uint64, most int) []uint64 {
	keys := slices.Collect(maps.Keys(lists))
	slices.SortFunc(keys, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(len(lists[a]), len(lists[b])), cmp.Compare(a, b))
	})
	for _, key := range keys {
		values := compact(append(slices.Clone(lists[key]), key))
		if len(set)+len(values) > most {
			break
		}
		set = append(set, values...)
	}
	return set
}

// isChoice says whether a text is short enough for one of a list.
func isChoice(s []byte) bool {
	return len(s) <= maxChoice && !bytes.ContainsAny(s, "\r\n")
}

// slashed is the spelling of a file or another choice in hashes, requirements
// and capabilities: a Windows host's separators count as slashes.
func slashed(choice string) string { return strings.ReplaceAll(choice, `\`, "/") }

// hasSlash says whether a text may name something in a folder, as Linux or Windows writes it.
func hasSlash(text []byte) bool {
	return bytes.IndexByte(text, '/') >= 0 || bytes.IndexByte(text, '\\') >= 0
}

// slashes is slashed of bytes, which it leaves as they are.
func slashes(choice []byte) []byte {
	if bytes.IndexByte(choice, '\\') < 0 {
		return choice
	}
	return bytes.ReplaceAll(choice, []byte(`\`), []byte("/"))
}
