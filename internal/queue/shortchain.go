package queue

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

const (
	kindsMost = 64   // more kinds of events than there are
	lastsMost = 1024 // messages that NATS gives for one request for the last of some subjects
	jobsMost  = 64   // of one request of ShortChains
)

// shortChain reads the last event of each kind with one request, and reports whether that is the whole chain.
func (q *Queue) shortChain(ctx context.Context, subject string) (chain []Link, whole bool, err error) {
	r := lastEventsReader{of: map[string]*lastEvents{subject: {}}}
	whole, err = r.read(ctx, q, []string{subject})
	one := r.of[subject]
	return one.links, whole && !one.broken, errors.Join(err, one.err)
}

// ShortChains reads all events of several jobs, oldest first, with one request for jobsMost of them. NATS goes back through the stream for
// each request, up to the oldest of these events, so it is for jobs that have ended lately.
// A job has none when its events are not stored any more, could not be read, or do not fit one request, which is when a kind of event
// occurs twice: Chain reads those.
func (q *Queue) ShortChains(ctx context.Context, jobs []JobEnd) [][]Link {
	found := make([][]Link, 0, len(jobs))
	for some := range slices.Chunk(jobs, jobsMost) {
		r := lastEventsReader{of: make(map[string]*lastEvents, len(some))}
		subjects := make([]string, len(some))
		for i, j := range some {
			subjects[i] = names.ChainSubject(j.Tenant, j.Job)
			r.of[subjects[i]] = &lastEvents{}
		}
		whole, err := r.read(ctx, q, subjects)
		for _, subject := range subjects {
			one := r.of[subject]
			if whole && err == nil && one.err == nil && !one.broken {
				found = append(found, one.links)
			} else {
				found = append(found, nil)
			}
		}
	}
	return found
}

// lastEventsReader reads the last event of each kind of some jobs.
type lastEventsReader struct {
	of map[string]*lastEvents // by names.ChainSubject
}

// lastEvents is the last event of each kind of a job. It is the whole chain as long as no kind occurs twice, as in most chains, which shows
// since each event names the one before it.
type lastEvents struct {
	links  []Link
	broken bool // it is not the whole chain
	err    error
}

// read reports whether all was read. From a stream with several copies, of which the leader must answer, nothing is read.
func (r *lastEventsReader) read(ctx context.Context, q *Queue, subjects []string) (whole bool, err error) {
	if !q.readEvents.CachedInfo().Config.AllowDirect {
		return false, nil
	}
	batch := min(kindsMost*len(subjects), lastsMost)
	answers, err := q.nc.ChanSubscribe(q.nc.NewInbox(), make(chan *nats.Msg, batch+1)) // SubscribeSync makes room for 65 536
	if err != nil {
		return false, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	return q.gets(ctx, answers, names.EventsStream, batchGet{Lasts: subjects, Batch: batch}, r.take)
}

func (r *lastEventsReader) take(msg *nats.Msg) error {
	subject := names.Added(msg.Header, natsjs.SubjectHeader)
	chain := r.of[subject[:strings.LastIndexByte(subject, '.')+1]+"*"]
	if chain == nil {
		return nil // nothing else is asked for
	}
	chain.add(subject, msg)
	return nil
}

func (l *lastEvents) add(subject string, msg *nats.Msg) {
	link, err := decodeLink(subject, msg.Header, msg.Data, sequenceOf(msg))
	if err != nil {
		l.err = err
		return
	}
	link.Stored = storedAt(msg)
	before := uint64(0)
	if n := len(l.links); n > 0 {
		before = l.links[n-1].ChainSequence
	}
	if link.void() || msg.Header.Get(natsjs.ExpectedLastSubjSeqHeader) != strconv.FormatUint(before, 10) {
		l.broken = true
	}
	l.links = append(l.links, link)
}
