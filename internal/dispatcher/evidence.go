package dispatcher

import (
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// evidence is what is known beside a job's own attempts, and whether a job of its workflow has completed lately.
func (l *loop) evidence(o *owned, attempts []failure.Attempt) (known failure.Evidence, recentlyCompleted bool, err error) {
	last, which := &attempts[len(attempts)-1], o.tenantHash()
	answered := l.ask(func(now time.Time) {
		for i := range attempts {
			if attempts[i].Lost() && l.hosts.isBack(attempts[i].Host) {
				known.Back = append(known.Back, attempts[i].Host)
			}
		}
		recentlyCompleted = l.successes.recent(which, now)
		if last.Lost() && !recentlyCompleted {
			known.Others = l.guilt.otherLosses(which, o.job.ID)
		}
		if last.Kind == failure.Refused {
			l.needs.learn(o.job)
			l.setLacks(o)
			left, better := l.fleet.Prospects(wantOf(o), failure.RefusedBy(attempts), o.listedBy)
			known.None, known.Better = !left, better
		}
	})
	if !answered {
		return known, false, errStopped
	}
	return known, recentlyCompleted, nil
}

var errStopped = errors.New("the dispatcher has stopped")
