package dispatcher

import "time"

// When enough jobs wait to fill every slot that becomes free, taking in more starts almost no job earlier. But each one costs
// a ticket, which is written, read by every dispatcher and claimed, and that work delays the jobs that start meanwhile. So
// while several tenants publish, some of them far more than others, the jobs of each are taken in with pauses, until more are
// needed. The others stay in the stream, where they cost nothing.

const (
	enoughWaiting = 256                  // as many waiting jobs are enough, or those that start in a second when these are more
	fullPause     = 5 * time.Millisecond // between two jobs of a tenant that are taken in while every slot is taken
	idlePause     = 2 * time.Millisecond // the same while a slot is free that no waiting job can use
	pauseBurst    = 64                   // jobs that may be taken in at once after a time without any
)

// pacer lets a job pass after each pause, and up to pauseBurst of them at once.
type pacer struct {
	next time.Time // the end of the pauses of all jobs that have passed
}

func (p *pacer) may(now time.Time, pause time.Duration) bool {
	return p.next.Sub(now) < pauseBurst*pause
}

func (p *pacer) count(now time.Time, pause time.Duration) { p.next = later(p.next, now).Add(pause) }

// intakePause gives the pause between two jobs of a tenant that are taken in, when so many wait and so many start in a second;
// 0 when more are needed. It is shorter while a slot stays free that none of the waiting jobs can use, for instance since all
// of them are to run later: a job that is still in the stream may be able to.
func intakePause(vacant, waiting, perSecond int) time.Duration {
	switch {
	case waiting < max(enoughWaiting, perSecond):
		return 0
	case vacant > 0:
		return idlePause
	}
	return fullPause
}
