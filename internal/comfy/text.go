package comfy

import (
	"hash/fnv"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxMessage bounds what of ComfyUI's texts goes into a failure, in bytes.
const maxMessage = 500

// oneLine joins the lines of a message by single spaces, drops control
// characters and cuts it after maxMessage bytes.
func oneLine(s string) string {
	if len(s) > 8*maxMessage {
		s = s[:8*maxMessage]
	}
	s = strings.ToValidUTF8(s, "")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	return clip(s, maxMessage)
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// hexHash is a short name for s that any file system takes.
func hexHash(s string) string {
	f := fnv.New64a()
	_, _ = f.Write([]byte(s)) // never fails
	return strconv.FormatUint(f.Sum64(), 16)
}
