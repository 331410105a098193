package jetstream

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
)

// FollowMany yields the events of any number of the tenant's jobs: of each job all events from the first to the last, in order
// and without gaps, new ones as they are stored. It ends when all jobs have ended, or with ctx, whose error is then the last
// item. It waits for jobs that are not submitted yet, and goes on after outages of NATS and of dispatchers.
func (c *Client) FollowMany(ctx context.Context, ids []ID) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		u := newUnended(ids, yield)
		if err := c.followMany(ctx, u); err != nil && !u.stopped {
			yield(Event{}, err)
		}
	}
}

// beyond is a sequence that no stream reaches: the page after it says where the stream ends.
const beyond = 1 << 62

func (c *Client) followMany(ctx context.Context, u *unended) error {
	if u.over() {
		return nil
	}
	end, err := c.Events(ctx, EventsRequest{After: beyond})
	if err != nil {
		return err
	}
	if err := c.tellStories(ctx, u); err != nil || u.over() {
		return err
	}
	var only job.ID
	if len(u.open) == 1 {
		only = slices.Collect(maps.Keys(u.open))[0]
	}
	f := c.following(only, end.Next)
	f.made, f.anew = end.Made, u.anew
	f.first = false // the dispatchers have answered: from here on they are waited for
	f.tell = func(n Note) bool {
		u.tell(&n)
		return !u.over()
	}
	return f.run(ctx)
}

// storyReaders is how many jobs are read at a time.
const storyReaders = 8

// jobStory are the stored events of a job.
type jobStory struct {
	notes []Note
	err   error
}

// tellStories yields the stored events of each job.
func (c *Client) tellStories(ctx context.Context, u *unended) error {
	ctx, cancel := context.WithCancel(ctx)
	wanted, stories := make(chan job.ID), make(chan jobStory)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	ids := slices.Collect(maps.Keys(u.open))
	for range min(storyReaders, len(ids)) {
		readers.Go(func() {
			for id := range wanted {
				s := c.story(ctx, id)
				select {
				case stories <- s:
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
		case s := <-stories:
			if s.err != nil {
				return s.err
			}
			for i := range s.notes {
				u.tell(&s.notes[i])
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

// story reads the stored events of a job. It calls again while NATS or the dispatchers are away, or have too many calls.
func (c *Client) story(ctx context.Context, id job.ID) (s jobStory) {
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
	open    map[job.ID]uint64 // jobs that have not ended, and the sequence of the event that was yielded last
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

// anew begins again with the first events, for a new stream, in which sequences begin again too.
func (u *unended) anew() {
	for id := range u.open {
		u.open[id] = 0
	}
}

// tell yields an event of a job that is followed, once.
func (u *unended) tell(n *Note) {
	e, is := n.Event()
	told, follows := u.open[e.Job]
	if !is || !follows || n.Sequence <= told || u.stopped {
		return
	}
	u.open[e.Job] = n.Sequence
	if e.EventKind.Terminal() {
		delete(u.open, e.Job)
	}
	u.stopped = !u.yield(e, nil)
}

// over reports whether nothing more is to be yielded.
func (u *unended) over() bool { return len(u.open) == 0 || u.stopped }
