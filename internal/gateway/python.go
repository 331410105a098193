package gateway

import (
	"strconv"
	"strings"
)

// pythonFloat is a number that JSON shows as Python shows a float: 5 is 5.0.
type pythonFloat float64

// MarshalJSON gives the shortest form that is no integer.
func (f pythonFloat) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(text, ".eIN") {
		text += ".0"
	}
	return []byte(text), nil
}
