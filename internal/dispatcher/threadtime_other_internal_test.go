//go:build !linux

package dispatcher

import "time"

// threadTime is not known on this system.
type threadTime struct{}

func threadTimeNow() threadTime { return threadTime{} }

func (threadTime) since(threadTime) (time.Duration, bool) { return 0, false }
