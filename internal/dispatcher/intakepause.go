package dispatcher

import "time"

// While jobs enough wait, taking in more of them hastens few or none: each costs a ticket, which is written, read by every
// dispatcher and claimed, and that work delays the jobs that begin meanwhile. So while several tenants publish, and not all
// about as much, each has only so many jobs taken in until there is need of more. The rest of a flood stands in the stream,
// where it costs nothing.

const (
	enoughWaiting = 256                  // waiting jobs that are enough; a second's work is when that is more
	fullPause     = 5 * time.Millisecond // between two jobs of a tenant that are taken in while every slot is taken
	idlePause     = 2 * time.Millisecond // the same while a slot is free that none of those who wait can use
	pauseBurst    = 64                   // that may come at once after a calm
)

// pacer lets a job pass after each pause, and up to pauseBurst of them at once.
type pacer struct {
	next time.Time // when it is as if none had passed before
}

func (p *pacer) may(now time.Time, pause time.Duration) bool {
	return p.next.Sub(now) < pauseBurst*pause
}

func (p *pacer) count(now time.Time, pause time.Duration) { p.next = later(p.next, now).Add(pause) }

// intakePause gives the pause between two jobs of a tenant that are taken in, when so many wait and so many begin in a second; 0
// when more are needed. When a slot stays free beside all that wait, as when they are to run later, a job that still stands
// in the stream may be the one for it.
func intakePause(vacant, waiting, perSecond int) time.Duration {
	switch {
	case waiting < max(enoughWaiting, perSecond):
		return 0
	case vacant > 0:
		return idlePause
	}
	return fullPause
}
