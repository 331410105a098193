package agent

import (
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Lively reads through r and sets timer back with every read.
func Lively(r io.Reader, timer *time.Timer, pause time.Duration) io.Reader {
	return &timedReader{r, timer, pause}
}

// PromptID is the id of an offered attempt in a fleet with this secret.
func PromptID(secret []byte, o *jetstream.Offer, created time.Time) string {
	return promptIDs{secret}.of(o, created)
}

// FormerPromptID is the id that an agent without a secret has given.
var FormerPromptID = formerPromptID

// Allows reports whether inputs may be fetched from an address under a policy.
func Allows(policy, address string) (bool, error) {
	r, err := parseReachable(policy)
	if err != nil {
		return false, err
	}
	return r.allows(netip.MustParseAddr(address)), nil
}

// NewFetcher fetches inputs under a policy, through a proxy where that function gives one.
func NewFetcher(policy string, proxy func(*http.Request) (*url.URL, error)) (*http.Client, error) {
	r, err := parseReachable(policy)
	return newFetcher(r, proxy), err
}
