package jetstream

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// FollowMany gives the events of any number of a tenant's jobs on one subscription: of each job all events from its
// first, in order and without gaps, and nothing after its end; of different jobs as they were stored. It ends when all
// jobs have ended, or with ctx, whose error is then the last item. Jobs that were not submitted yet are waited for, and so
// is NATS when it is away: what was stored meanwhile comes when it is back.
func (q *Queue) FollowMany(ctx context.Context, tenant job.Tenant, ids []job.ID) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		m := many{q: q, tenant: tenant, unended: newUnended(ids, yield)}
		for !m.over() {
			err := m.follow(ctx)
			if m.stopped || err == nil {
				continue
			}
			if !q.nc.IsClosed() && pause(ctx, rewatchPause) {
				continue
			}
			yield(Event{}, or(ctx.Err(), err))
			return
		}
	}
}

// unended are jobs that are followed to their ends.
type unended struct {
	open    map[job.ID]uint64 // those that have not ended, and the sequence of the event that was told last
	yield   func(Event, error) bool
	stopped bool
}

func newUnended(ids []job.ID, yield func(Event, error) bool) *unended {
	u := &unended{open: make(map[job.ID]uint64, len(ids)), yield: yield}
	for _, id := range ids {
		u.open[id] = 0
	}
	return u
}

// anew tells them from their first events, since sequences begin anew as well.
func (u *unended) anew() {
	for id := range u.open {
		u.open[id] = 0
	}
}

// tell tells an event of a job that is followed, once.
func (u *unended) tell(link *Link) {
	told, follows := u.open[link.Job]
	if !follows || link.ChainSequence <= told || u.stopped {
		return
	}
	u.open[link.Job] = link.ChainSequence
	if link.EventKind.Terminal() {
		delete(u.open, link.Job)
	}
	u.stopped = !u.yield(link.Event, nil)
}

// over reports whether nothing more is to be told.
func (u *unended) over() bool { return len(u.open) == 0 || u.stopped }

// many are the jobs of one FollowMany.
type many struct {
	*unended
	q       *Queue
	tenant  job.Tenant
	created time.Time // of the stream that the sequences are of
	next    uint64    // sequence from which nothing was seen; 0: nothing at all
}

// follow tells first what the chains hold, and then what is stored behind the place where the stream stood before. After
// an interruption it goes on from where it was, and begins anew with a stream that was made again.
func (m *many) follow(ctx context.Context) error {
	info, err := m.q.streamState(ctx, EventsStream)
	if err != nil {
		return err
	}
	if !info.Created.Equal(m.created) {
		m.created, m.next = info.Created, 0
		m.anew()
	}
	if m.next == 0 {
		m.next = info.State.LastSeq + 1
		if err := m.tellStored(ctx); err != nil {
			m.next = 0
			return err
		}
	}
	if m.over() {
		return nil
	}
	cfg := natsjs.OrderedConsumerConfig{
		FilterSubjects: []string{m.filter()}, InactiveThreshold: time.Minute,
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: m.next,
	}
	return m.q.notes(ctx, cfg, func(n Note) bool {
		m.next = n.Sequence + 1
		if link, err := decodeLink(n.Subject, n.Header, n.Body, n.Sequence); err == nil && !link.void() {
			m.tell(&link)
		}
		return !m.over()
	})
}

func (m *many) filter() string {
	if len(m.open) == 1 {
		for id := range m.open {
			return chainSubject(m.tenant, id)
		}
	}
	return jobEventsPrefix + string(m.tenant) + ".>"
}

// storedReaders is how many chains are read at a time: of most jobs there is none yet.
const storedReaders = 16

// tellStored tells what the chains hold so far.
func (m *many) tellStored(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ids, chains := make(chan job.ID), make(chan []Link)
	failed := make(chan error, storedReaders)
	var readers sync.WaitGroup
	for range storedReaders {
		readers.Go(func() {
			for id := range ids {
				chain, err := m.stored(ctx, id)
				if err != nil {
					failed <- err
					cancel()
					return
				}
				chains <- chain
			}
		})
	}
	wanted := make([]job.ID, 0, len(m.open))
	for id := range m.open {
		wanted = append(wanted, id)
	}
	go func() {
		defer close(chains)
		defer readers.Wait()
		defer close(ids)
		for _, id := range wanted {
			select {
			case ids <- id:
			case <-ctx.Done():
				return
			}
		}
	}()
	for chain := range chains {
		for i := range chain {
			m.tell(&chain[i])
		}
		if m.stopped {
			cancel()
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

func (m *many) stored(ctx context.Context, id job.ID) ([]Link, error) {
	if _, found, err := m.q.Last(ctx, m.tenant, id); err != nil || !found {
		return nil, err
	}
	return m.q.Chain(ctx, m.tenant, id)
}

// streamState asks how a stream stands.
func (q *Queue) streamState(ctx context.Context, name string) (*natsjs.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, orderedTimeout)
	defer cancel()
	stream, err := q.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}
