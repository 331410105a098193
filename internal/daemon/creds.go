package daemon

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"

	"github.com/nats-io/nkeys"
)

// claims are what a credentials file says of its holder, as far as a program needs it. NATS checks them; here they are
// only read.
type claims struct {
	Name string `json:"name"`
	NATS struct {
		Tags []string `json:"tags"`
	} `json:"nats"`
}

// credentials reads a credentials file; a file that cannot be read gives empty claims.
func credentials(file string) claims {
	var c claims
	text, err := os.ReadFile(file)
	if err != nil {
		return c
	}
	token, err := nkeys.ParseDecoratedJWT(text)
	if err != nil {
		return c
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c
	}
	if body, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
		_ = json.Unmarshal(body, &c) // what is no JSON leaves the claims empty
	}
	return c
}

// tag gives what follows a prefix in one of the tags.
func (c claims) tag(prefix string) string {
	for _, tag := range c.NATS.Tags {
		if value, found := strings.CutPrefix(tag, prefix); found {
			return value
		}
	}
	return ""
}

func (n NATS) inbox() string {
	if n.Inbox != "" || n.Creds == "" {
		return n.Inbox
	}
	return credentials(n.Creds).tag("inbox:")
}
