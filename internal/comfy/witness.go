package comfy

import (
	"context"
	"time"
)

// Witness sees facts about the process of a ComfyUI without asking ComfyUI.
type Witness interface {
	// Look finds the process that listens on the host's port. ok is false when it cannot be seen: it runs on another
	// machine, in another container, or under another user.
	Look(ctx context.Context) (s Sighting, ok bool)
}

// Sighting is one look at a process.
type Sighting struct {
	Process string // the same text for the same process, another one for every other
	Main    int    // the id of its main thread
	Threads map[int]Thread
}

// Thread is one thread of a process, by its id.
type Thread struct {
	Name string
	Busy time.Duration // how long it has used a processor so far
}
