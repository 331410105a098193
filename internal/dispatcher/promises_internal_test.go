package dispatcher

import (
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

type promiseScene struct {
	*promises
	looks []idKey
}

func newPromiseScene() *promiseScene {
	s := &promiseScene{}
	rests, _ := restScene()
	s.promises = newPromises(promises{
		toBegin: 5 * time.Second, rests: rests, look: func(key idKey, _ promise) { s.looks = append(s.looks, key) },
	})
	return s
}

func lastEvent(sequence uint64, host string) *queue.Link {
	return &queue.Link{ChainSequence: sequence, Event: jetstream.Event{Host: host}}
}

func TestAJobIsLookedAtWhenItsTimeToBeginIsOver(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	s.accepted(ownedJob(t, "acme", 1, 1), "a", noonUTC)
	s.unanswered(ownedJob(t, "acme", 2, 1), "b", noonUTC)
	s.lookAtDue(noonUTC.Add(5*time.Second - 1))
	same(t, "before", len(s.looks), 0)
	s.lookAtDue(noonUTC.Add(5 * time.Second))
	same(t, "after", s.looks[0] == idKey{"acme", "acme-1"}, true)
	s.lookAtDue(noonUTC.Add(10*time.Second - 1))
	same(t, "each once", len(s.looks), 1)
	s.lookAtDue(noonUTC.Add(10 * time.Second)) // its lease has run out by then
	same(t, "without an answer", s.looks[1] == idKey{"acme", "acme-2"}, true)
}

func TestWhatFollowsFromAChainThatWasLookedAt(t *testing.T) {
	t.Parallel()
	key := idKey{"acme", "acme-1"}
	for name, c := range map[string]struct {
		last     *queue.Link
		err      error
		answered bool
		record   bool
		open     bool
	}{
		"it has not begun":              {last: lastEvent(1, ""), answered: true, record: true},
		"nor had the agent answered":    {last: lastEvent(1, ""), record: true},
		"it began there":                {last: lastEvent(2, "a"), answered: true},
		"it began elsewhere":            {last: lastEvent(2, "b"), answered: true},
		"the chain could not be read":   {last: lastEvent(0, ""), err: errors.New("away"), answered: true, open: true},
		"nothing of it is stored there": {last: lastEvent(0, ""), answered: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPromiseScene()
			s.looking = 1
			s.looked(key, promise{host: "a", answered: c.answered, last: 1}, c.last, c.err, noonUTC)
			_, open := s.open[key]
			same(t, "record, open, looking", []any{s.rests.hasRecord("a"), open, s.looking}, []any{c.record, c.open, 0})
			same(t, "rests", s.rests.of("a", noonUTC) != nil, c.record && c.answered)
		})
	}
}

func TestAHostThatBeginsAJobAfterItsRestHasNoRecordAnyMore(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	s.rests.notBegun("a", true, noonUTC)
	s.looked(idKey{"acme", "x"}, promise{host: "a", answered: true, last: 1}, lastEvent(2, "a"), nil, noonUTC.Add(time.Minute))
	same(t, "record", s.rests.hasRecord("a"), false)
}

func TestAJobThatIsGivenToHostsOnceMoreIsADoubtAboutItsHost(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	o := ownedJob(t, "acme", 1, 1)
	s.accepted(o, "a", noonUTC)
	moved := *o
	moved.last = 9
	s.again(&moved, noonUTC)
	same(t, "when its chain has moved on", s.rests.hasRecord("a"), false)
	s.again(ownedJob(t, "acme", 2, 1), noonUTC)
	same(t, "another job", len(s.open), 1)
	s.again(o, noonUTC)
	same(t, "its lease has run out", []any{s.rests.hasRecord("a"), s.rests.of("a", noonUTC) != nil, len(s.open)}, []any{true, false, 0})
}

func TestAJobWhoseEndCameBeforeTheAnswerIsNoPromise(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	o := ownedJob(t, "acme", 1, 1)
	over := &queue.EndedJob{Tenant: "acme", Job: "acme-1"}
	s.over("a", over)
	s.accepted(o, "a", noonUTC)
	same(t, "the end first", []int{len(s.open), len(s.early)}, []int{0, 0})
	s.accepted(o, "a", noonUTC)
	s.over("b", over) // another host cannot end it
	same(t, "another host's word", len(s.open), 1)
	s.over("a", over)
	same(t, "the answer first", len(s.open), 0)
	s.rests.notBegun("a", true, noonUTC)
	s.accepted(o, "a", noonUTC)
	s.over("a", over)
	same(t, "of a host with a record the chain alone says it", len(s.open), 1)
}

func TestOnlySoManyEarlyEndsAreRemembered(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	for n := range earlyMost + 1 {
		s.over("a", &queue.EndedJob{Tenant: "acme", Job: job.ID(ownedName(n))})
	}
	_, first := s.early[idKey{"acme", job.ID(ownedName(0))}]
	same(t, "remembered", []any{len(s.early), first}, []any{512, false})
}

func ownedName(n int) string { return "job-" + time.Duration(n).String() }

func TestOnlySoManyChainsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	for n := range uint64(40) {
		s.accepted(ownedJob(t, "acme", n+1, 1), "a", noonUTC)
	}
	s.lookAtDue(noonUTC.Add(time.Minute))
	same(t, "at once", len(s.looks), 32)
	s.looked(s.looks[0], promise{host: "a"}, lastEvent(2, "a"), nil, noonUTC)
	s.lookAtDue(noonUTC.Add(time.Minute))
	same(t, "then", len(s.looks), 33)
}

func TestALookKnowsWhetherTheOfferWasAnswered(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	answered := map[job.ID]bool{}
	s.look = func(key idKey, p promise) { answered[key.id] = p.answered }
	s.accepted(ownedJob(t, "acme", 1, 1), "a", noonUTC)
	s.unanswered(ownedJob(t, "acme", 2, 1), "b", noonUTC)
	s.lookAtDue(noonUTC.Add(time.Minute))
	same(t, "answered", answered, map[job.ID]bool{"acme-1": true, "acme-2": false})
}

func TestASecondPublishOfAJobIsNoDoubtAboutItsHost(t *testing.T) {
	t.Parallel()
	s := newPromiseScene()
	o := ownedJob(t, "acme", 1, 1)
	s.accepted(o, "a", noonUTC)
	second, message := *o, *o.job
	message.Sequence = 9
	second.job = &message
	s.again(&second, noonUTC)
	same(t, "record and promises", []any{s.rests.hasRecord("a"), len(s.open)}, []any{false, 1})
}
