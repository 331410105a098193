package agent

import (
	"io"
	"time"
)

// Lively reads through r and sets timer back with every read.
func Lively(r io.Reader, timer *time.Timer, pause time.Duration) io.Reader {
	return &lively{r, timer, pause}
}
