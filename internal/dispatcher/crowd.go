package dispatcher

import "time"

// While every slot is taken and jobs enough wait for the next ones, taking in more of them hastens none: each costs a
// ticket, which is written, read by every dispatcher and claimed, and that work delays the jobs that begin meanwhile. So
// while several tenants publish, and not all about as much, each has only so many jobs taken in until there is need of more.
// The rest of a flood stands in the stream, where it costs nothing.

const (
	crowdLeast = 256                  // waiting jobs that are enough; a second's work is when that is more
	crowdPause = 5 * time.Millisecond // between two jobs of a tenant that are taken in then
	crowdBurst = 64                   // that may come at once after a calm
)

// pacer lets a job pass every crowdPause, and up to crowdBurst of them at once.
type pacer struct {
	next time.Time // when it is as if none had passed before
}

func (p *pacer) may(now time.Time) bool { return p.next.Sub(now) < crowdBurst*crowdPause }

func (p *pacer) count(now time.Time) { p.next = later(p.next, now).Add(crowdPause) }

// crowded reports whether more waiting jobs are of no use, of which so many wait and so many begin in a second. When a slot
// stays free beside all that wait, a job that still stands in the stream may be the one for it.
func crowded(vacant, waiting, perSecond int) bool {
	return vacant == 0 && waiting >= max(crowdLeast, perSecond)
}
