package agent

import (
	"errors"
	"strings"

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

// hide replaces secrets in a text.
func hide(secrets []string) *strings.Replacer {
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, redacted)
	}
	return strings.NewReplacer(pairs...)
}
