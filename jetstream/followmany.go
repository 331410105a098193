package jetstream

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
)

// FollowMany gives the events of any number of the tenant's jobs: of each job all events from the first to the terminal one, in
// order and without gaps; further events as they are stored. It ends when all jobs have ended, or with ctx, whose error is then the
// last item. It waits for jobs that were not submitted yet, and for NATS and the dispatchers when they cannot be reached for a
// time; only an error of the first call, such as that no dispatcher is running, ends it at once.
func (c *Client) FollowMany(ctx context.Context, ids []ID) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		u := newUnended(ids, yield)
		if err := c.followMany(ctx, u); err != nil && !u.stopped { // a loop that was left must not be given more
			yield(Event{}, err)
		}
	}
}

// beyond is a sequence that no stream reaches: the answer to a request for the events after it has the stream's last sequence.
const beyond = 1 << 62

func (c *Client) followMany(ctx context.Context, u *unended) error {
	if u.over() {
		return nil
	}
	end, err := c.Events(ctx, EventsRequest{After: beyond})
	if err != nil {
		return err
	}
	if err := c.yieldStored(ctx, u); err != nil || u.over() {
		return err
	}
	var only ID
	if len(u.open) == 1 {
		only = slices.Collect(maps.Keys(u.open))[0]
	}
	f := c.following(only, end.Next)
	f.made, f.restart = end.Made, u.restart
	f.first = false // a dispatcher has answered: from here on an error is retried
	f.yield = func(n Note) bool {
		u.give(&n)
		return !u.over()
	}
	return f.run(ctx)
}

// chainReaders is how many jobs' stored events are asked for at a time.
const chainReaders = 8

// storedChain are the stored events of a job, or why they could not be read.
type storedChain struct {
	notes []Note
	err   error
}

// yieldStored gives the stored events of each job.
func (c *Client) yieldStored(ctx context.Context, u *unended) error {
	ctx, cancel := context.WithCancel(ctx)
	wanted, chains := make(chan ID), make(chan storedChain)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	ids := slices.Collect(maps.Keys(u.open))
	for range min(chainReaders, len(ids)) {
		readers.Go(func() {
			for id := range wanted {
				s := c.readChain(ctx, id)
				select {
				case chains <- s:
				case <-ctx.Done():
				}
			}
		})
	}
	readers.Go(func() {
		defer close(wanted)
		for _, id := range ids {
			select {
			case wanted <- id:
			case <-ctx.Done():
				return
			}
		}
	})
	for range ids {
		select {
		case s := <-chains:
			if s.err != nil {
				return s.err
			}
			for i := range s.notes {
				u.give(&s.notes[i])
			}
			if u.stopped {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// readChain reads the stored events of a job, and asks again while NATS or the dispatchers cannot be reached, or refuse further
// calls.
func (c *Client) readChain(ctx context.Context, id ID) (s storedChain) {
	for after := uint64(0); ; {
		page, err := c.Events(ctx, EventsRequest{Job: id, After: after})
		if err != nil {
			if _, wrong := errors.AsType[*BadRequest](err); !wrong && !c.nc.IsClosed() && pause(ctx, retryPause) {
				continue
			}
			s.err = cmp.Or(ctx.Err(), err)
			return s
		}
		for i := range page.Events {
			s.notes = append(s.notes, page.Events[i].note())
		}
		if after = page.Next; page.End {
			return s
		}
	}
}

// unended are jobs that are followed to their ends.
type unended struct {
	open    map[ID]uint64 // those that have not ended, each with the sequence of the last event that was given; 0: none
	yield   func(Event, error) bool
	stopped bool
}

func newUnended(ids []ID, yield func(Event, error) bool) *unended {
	u := &unended{open: make(map[ID]uint64, len(ids)), yield: yield}
	for _, id := range ids {
		u.open[id] = 0
	}
	return u
}

// restart gives the jobs' events from the first again: the stream was created again, and its sequences begin at 1.
func (u *unended) restart() {
	for id := range u.open {
		u.open[id] = 0
	}
}

// give yields an event of a job that is followed, once.
func (u *unended) give(n *Note) {
	e, is := n.Event()
	given, follows := u.open[e.Job]
	if !is || !follows || n.Sequence <= given || u.stopped {
		return
	}
	u.open[e.Job] = n.Sequence
	if e.EventKind.Terminal() {
		delete(u.open, e.Job)
	}
	u.stopped = !u.yield(e, nil)
}

// over reports whether no further event is to be given.
func (u *unended) over() bool { return len(u.open) == 0 || u.stopped }
