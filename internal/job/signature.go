package job

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Signature is equal for dead jobs that died in the same way: of one reason, with the last failure of one kind, exception, node
// class and message, apart from numbers and paths in it. It has 16 hex digits.
func (e *Event) Signature() string {
	last := failure.Attempt{Exception: e.Exception, Class: e.Class, Message: e.Message}
	sum := sha256.Sum256([]byte(strings.Join([]string{e.Reason, string(e.Kind), last.Signature()}, "\x00")))
	return hex.EncodeToString(sum[:8])
}
