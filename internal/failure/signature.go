package failure

import "strings"

// Signature identifies a failure across hosts: exception type, node class and message with numbers and paths
// removed, since those differ between two hosts that fail for the same reason.
func (a Attempt) Signature() string {
	return a.Exception + "\x00" + a.Class + "\x00" + Normalise(a.Message)
}

// Normalise removes what differs between hosts from a message: words that hold a slash or backslash (paths),
// and digits with the sign, point or 0x that belong to them.
func Normalise(message string) string {
	var b strings.Builder
	for i, word := range strings.Fields(message) {
		if i > 0 {
			b.WriteByte(' ')
		}
		if strings.ContainsAny(word, `/\`) {
			b.WriteByte('/')
			continue
		}
		writeWithoutNumbers(&b, word)
	}
	return b.String()
}

func writeWithoutNumbers(b *strings.Builder, word string) {
	if rest, hex := strings.CutPrefix(word, "0x"); hex && rest != "" {
		b.WriteByte('#')
		return
	}
	inNumber := false
	for _, r := range word {
		if r >= '0' && r <= '9' {
			if !inNumber {
				b.WriteByte('#')
			}
			inNumber = true
			continue
		}
		if inNumber && r == '.' {
			continue
		}
		inNumber = false
		b.WriteRune(r)
	}
}
