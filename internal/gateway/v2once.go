package gateway

import (
	"net/http"
	"strings"
)

// onceHeader is the header with a key that a tenant may use for one request only.
const onceHeader = "Idempotency-Key"

const longestOnce = 255

// onceKey reads the Idempotency-Key of a request; empty when it has none.
func onceKey(r *http.Request) (string, error) {
	given, has := r.Header[onceHeader]
	if !has {
		return "", nil
	}
	if len(given) != 1 {
		return "", badRequest("the header %s is given %d times: give it once", onceHeader, len(given))
	}
	key := given[0]
	if key == "" || len(key) > longestOnce || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", badRequest("the header %s must be 1 to %d printable ASCII characters, such as a UUID: leave it out when there is none", onceHeader, longestOnce)
	}
	return key, nil
}

func onceReused() *refusal {
	return unprocessable("idempotency_key_reuse",
		"a request with this %s was received before, and a key can be used once: read or list your jobs to find what it made, or send a new key", onceHeader)
}
