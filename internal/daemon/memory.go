package daemon

import (
	"os"
	"runtime/debug"
)

// gcPercent lets the heap grow to four times what lives before it is collected: a queue's live heap is some tens of
// megabytes, and the collector would otherwise take a tenth of the time. GOGC, when it is set, decides instead.
const gcPercent = 300

// TuneMemory sets the collector for a process that moves many small messages.
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
