package agent

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// redacted replaces a secret of a job's extra_data.
const redacted = "[extra_data]"

// redact removes the secrets of a job's extra_data from the texts and the error of its run: a node may quote its key in
// an exception or in a text that it shows.
func redact(secrets []string, r *comfy.Result, err error) {
	if len(secrets) == 0 {
		return
	}
	hide := hide(secrets)
	if f, is := errors.AsType[*failure.Failure](err); is {
		f.Message, f.Exception = hide.Replace(f.Message), hide.Replace(f.Exception)
	}
	if r == nil {
		return
	}
	for _, texts := range r.Texts {
		for i := range texts {
			texts[i] = hide.Replace(texts[i])
		}
	}
	for i := range r.Blocked {
		r.Blocked[i] = hide.Replace(r.Blocked[i])
	}
}

// hide replaces secrets in a text, which may be JSON as ComfyUI writes it.
func hide(secrets []string) *strings.Replacer {
	pairs := make([]string, 0, 4*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, redacted)
		if quoted := quotedByPython(secret); quoted != secret {
			pairs = append(pairs, quoted, redacted)
		}
	}
	return strings.NewReplacer(pairs...)
}

// quotedByPython is a text as it is between the quotes of a JSON string that Python has written: only of printable ASCII.
func quotedByPython(text string) string {
	var quoted strings.Builder
	for _, c := range utf16.Encode([]rune(text)) {
		switch at := strings.IndexByte("\b\f\n\r\t\"\\", byte(c)); {
		case c < 0x80 && at >= 0:
			quoted.WriteString(`\` + `bfnrt"\`[at:at+1])
		case c < ' ' || c > '~':
			fmt.Fprintf(&quoted, `\u%04x`, c)
		default:
			quoted.WriteByte(byte(c))
		}
	}
	return quoted.String()
}
