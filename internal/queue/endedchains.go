package queue

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// EndedChains reads all events of jobs that have ended, oldest first. It goes back from the ends, since each event names the one before
// it, and asks for one event of every job at once. A request by sequence costs NATS the same wherever the event lies.
// A job has no events here when one of them is not stored any more, cannot be read, or was not answered, when another program has stored a
// message among them, and when the stream has several copies, of which the leader must answer: Chain reads those.
func (q *Queue) EndedChains(ctx context.Context, jobs []JobEnd) [][]Link {
	chains := make([][]Link, len(jobs))
	if !q.readEvents.CachedInfo().Config.AllowDirect {
		return chains
	}
	inbox := q.nc.NewInbox()
	answers, err := q.nc.ChanSubscribe(inbox+".*", make(chan *nats.Msg, len(jobs)))
	if err != nil {
		return chains
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	r := endedReader{q: q, inbox: inbox, answers: answers, jobs: jobs, chains: chains, read: make([][]Link, len(jobs)), next: make(map[int]uint64, len(jobs))}
	for i, end := range jobs {
		r.next[i] = end.Sequence
	}
	for len(r.next) > 0 && r.step(ctx) {
	}
	return chains
}

// endedReader reads chains from their ends.
type endedReader struct {
	q       *Queue
	inbox   string // of answers, followed by the index of a job
	answers *nats.Subscription
	jobs    []JobEnd
	chains  [][]Link       // those that are read whole
	read    [][]Link       // the others as far as they are read, the newest event first
	next    map[int]uint64 // sequence of the event that is read next, by index; a job that is read has none
}

// step reads one event of every job that is not read yet; false means that not all were answered.
func (r *endedReader) step(ctx context.Context) bool {
	subject := r.q.apiSubject("DIRECT.GET." + names.EventsStream)
	for i, sequence := range r.next {
		request := `{"seq":` + strconv.FormatUint(sequence, 10) + `}`
		if r.q.nc.PublishRequest(subject, r.inbox+"."+strconv.Itoa(i), []byte(request)) != nil {
			return false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, nextTimeout)
	defer cancel()
	for range len(r.next) {
		msg, err := r.answers.NextMsgWithContext(ctx)
		if err != nil {
			return false
		}
		r.take(msg)
	}
	return true
}

// take adds an event to what is read of its job, whose chain is whole with its first one.
func (r *endedReader) take(msg *nats.Msg) {
	i, err := strconv.Atoi(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
	sequence, asked := r.next[i]
	if err != nil || !asked {
		return
	}
	delete(r.next, i)
	link, before, err := linkOf(msg)
	next, wrong := strconv.ParseUint(before, 10, 64)
	if err != nil || wrong != nil || link.noEvent() || link.Tenant != r.jobs[i].Tenant || link.Job != r.jobs[i].Job || next >= sequence {
		return
	}
	r.read[i] = append(r.read[i], link)
	if next != 0 {
		r.next[i] = next
		return
	}
	slices.Reverse(r.read[i])
	r.chains[i] = r.read[i]
}
