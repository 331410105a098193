package workflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Capability is what a host can run: the classes it has, the (class, input)
// pairs whose choices it enumerates, and these choices, as a set of xxhash64
// values (8 bytes each; a host with 5 000 classes and choices is 40 kB). It is
// immutable but for UnmarshalBinary, and copies share their memory. The zero
// Capability is that of a host that has nothing.
//
// Two names of one set collide with a chance of about n²/2⁶⁵; a collision costs
// one attempt that ComfyUI refuses.
type Capability struct {
	sorted []uint64
	// starts[p] is the position of the first value whose leading bits are p or
	// more. Hash values are spread evenly, so that a slot holds one or two.
	starts []uint32
	shift  uint8
	digest uint64
}

func newCapability(sorted []uint64) Capability {
	prefix := bits.Len(uint(len(sorted) / 2))
	c := Capability{sorted: sorted, starts: make([]uint32, 1<<prefix+1), shift: uint8(64 - prefix)}
	for _, v := range sorted {
		c.starts[v>>c.shift+1]++
	}
	for i := 1; i < len(c.starts); i++ {
		c.starts[i] += c.starts[i-1]
	}
	c.digest = xxhash.Sum64(c.appendValues(nil))
	return c
}

func (c Capability) has(v uint64) bool {
	if len(c.sorted) == 0 {
		return false
	}
	p := v >> c.shift
	for _, w := range c.sorted[c.starts[p]:c.starts[p+1]] {
		if w >= v {
			return w == v
		}
	}
	return false
}

// HasClass says whether the host has a node class.
func (c Capability) HasClass(class string) bool { return c.has(classKey(class)) }

// Len returns the number of values: classes, enumerated inputs and choices.
func (c Capability) Len() int { return len(c.sorted) }

// Digest is equal for equal capabilities, whatever the order they were built in.
func (c Capability) Digest() uint64 {
	if len(c.sorted) == 0 {
		return xxhash.Sum64(nil)
	}
	return c.digest
}

// Equal reports whether two hosts can run the same.
func (c Capability) Equal(o Capability) bool { return slices.Equal(c.sorted, o.sorted) }

// Marshals reports whether data is what MarshalBinary writes, which is much
// faster to find out than to unmarshal data.
func (c Capability) Marshals(data []byte) bool {
	if len(data) != len(capabilityMagic)+8*len(c.sorted) || string(data[:len(capabilityMagic)]) != capabilityMagic {
		return false
	}
	data = data[len(capabilityMagic):]
	for i, v := range c.sorted {
		if binary.LittleEndian.Uint64(data[8*i:]) != v {
			return false
		}
	}
	return true
}

// capabilityMagic begins a marshalled Capability; its last byte is the version
// of the format and of the key functions below.
const capabilityMagic = "cap\x01"

// MarshalBinary writes capabilityMagic, "cap\x01", and the values, ascending, each in 8
// bytes, little endian.
func (c Capability) MarshalBinary() ([]byte, error) {
	return c.appendValues([]byte(capabilityMagic)), nil
}

func (c Capability) appendValues(b []byte) []byte {
	b = slices.Grow(b, 8*len(c.sorted))
	for _, v := range c.sorted {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// UnmarshalBinary reads what MarshalBinary wrote, in this version or in one that
// kept files only, and refuses anything else; c is unchanged then. It keeps no
// reference to data.
func (c *Capability) UnmarshalBinary(data []byte) error {
	if len(data) < len(capabilityMagic) || string(data[:len(capabilityMagic)]) != capabilityMagic {
		return errors.New("read capability: it was written in another format; restart the host's agent in this version")
	}
	data = data[len(capabilityMagic):]
	if len(data)%8 != 0 {
		return errors.New("read capability: it is cut off")
	}
	if len(data)/8 > maxValues {
		return fmt.Errorf("read capability: it has %d values, and a host has at most %d", len(data)/8, maxValues)
	}
	sorted := make([]uint64, len(data)/8)
	for i := range sorted {
		sorted[i] = binary.LittleEndian.Uint64(data[8*i:])
		if i > 0 && sorted[i] <= sorted[i-1] {
			return errors.New("read capability: its values are not ascending")
		}
	}
	*c = newCapability(sorted)
	return nil
}

// The keys of one set differ by their first byte.
func classKey[T text](class T) uint64             { return key('c', class) }
func inputKey[T text](class, input T) uint64      { return key('i', class, input) }
func fileKey[T text](class, input, file T) uint64 { return key('f', class, input, file) }

// listKey says that all choices of an input are in the set, and not only the
// model files among them.
func listKey[T text](class, input T) uint64 { return key('o', class, input) }

func textKey[T text](class, input, choice T) uint64 { return key('v', class, input, choice) }

// numberKey is that of a choice that is a number, or a boolean, which is 1 or 0
// to Python.
func numberKey[T text](class, input T, choice float64) uint64 {
	var bits [8]byte
	binary.LittleEndian.PutUint64(bits[:], math.Float64bits(choice+0)) // -0 is 0
	return key('n', class, input, T(bits[:]))
}

type text interface{ string | []byte }

// key hashes a tag and names, each name followed by a zero byte.
func key[T text](tag byte, names ...T) uint64 {
	var room [320]byte
	b := append(room[:0], tag)
	for _, name := range names {
		b = append(append(b, name...), 0)
	}
	return xxhash.Sum64(b)
}
