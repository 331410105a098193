package agent

import (
	"io"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Lively reads through r and sets timer back with every read.
func Lively(r io.Reader, timer *time.Timer, pause time.Duration) io.Reader {
	return &lively{r, timer, pause}
}

// PromptID is the id of an offered attempt in a fleet with this secret.
func PromptID(secret []byte, o *jetstream.Offer, created time.Time) string {
	return promptIDs{secret}.of(o, created)
}

// FormerPromptID is the id that an agent without a secret has given.
var FormerPromptID = formerPromptID
