package daemon

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes as people write it: 512MiB, 20GB, or 1048576. The zero value stands for none given.
type Size int64

type unit struct {
	name  string
	bytes float64
}

// units are tried in this order.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
		{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
	}
}

// UnmarshalText reads a size; it is never negative.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimSpace(string(text)), 1.0
	for _, u := range units() {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, unit = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if bytes := n * unit; err == nil && bytes >= 0 && bytes < math.MaxInt64/2 { // false for NaN
		*s = Size(bytes)
		return nil
	}
	return fmt.Errorf("%q is no size; write it like 512MiB, 20GiB or 1048576", text)
}

// String is the size as people read it.
func (s Size) String() string {
	for _, u := range units()[:4] {
		if float64(s) >= u.bytes {
			return strconv.FormatFloat(math.Round(float64(s)/u.bytes*10)/10, 'f', -1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}
