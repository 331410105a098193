package dispatcher

import (
	"context"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// offerWire answers an offer.
type offerWire struct {
	stillWire
	reply queue.Reply
	err   error
}

func (w *offerWire) Now() time.Time { return noonUTC }

func (w *offerWire) Offer(context.Context, string, *queue.Offer) (queue.Reply, error) {
	return w.reply, w.err
}

func (w *offerWire) ExtendSurely(context.Context, queue.Lease) error { return nil }

func TestWhatFollowsFromAnAnswerToAnOffer(t *testing.T) {
	t.Parallel()
	free, full := onlineHost("a", 2, 1), onlineHost("a", 2, 1)
	full.Foreign = 1
	type follows struct {
		Done    bool
		Unfit   bool          // the host is not offered the job again on this walk
		AnySlot bool          // the job is not meant for free slots alone any more
		Pause   time.Duration // before the job is offered again
	}
	for name, c := range map[string]struct {
		reply queue.Reply
		err   error
		want  follows
	}{
		"accepted":               {queue.Reply{Answer: queue.Accepted, State: full}, nil, follows{Done: true}},
		"no answer":              {queue.Reply{}, queue.ErrNoAnswer, follows{Done: true}},
		"no agent":               {queue.Reply{}, queue.ErrNoAgent, follows{Unfit: true}},
		"busy":                   {queue.Reply{Answer: queue.Busy, State: full}, nil, follows{AnySlot: true}},
		"busy with a free slot":  {queue.Reply{Answer: queue.Busy, State: free}, nil, follows{Unfit: true, Pause: time.Second}},
		"unfit":                  {queue.Reply{Answer: queue.Unfit, State: full}, nil, follows{Unfit: true}},
		"unfit with a free slot": {queue.Reply{Answer: queue.Unfit, State: free}, nil, follows{Unfit: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, o := newLoopScene(t, Config{}), ownedJob(t, "acme", 1, 1)
			s.d.q = &offerWire{reply: c.reply, err: c.err}
			got := follows{Done: s.d.offer(t.Context(), o, &spot{host: "a"})}
			got.Unfit, got.AnySlot = len(o.unfit) == 1, o.anySlot
			if !o.notBefore.IsZero() {
				got.Pause = o.notBefore.Sub(noonUTC)
			}
			same(t, "follows", got, c.want)
			same(t, "host", len(o.unfit) == 0 || o.unfit[0] == "a", true)
		})
	}
}

// offersOf notes which offers are meant for free slots alone.
type offersOf struct {
	offerWire
	free []bool
}

func (w *offersOf) Offer(_ context.Context, _ string, o *queue.Offer) (queue.Reply, error) {
	w.free = append(w.free, o.FreeSlot)
	return w.reply, w.err
}

func TestAJobThatFoundNoFreeSlotOnceMayBePrefetched(t *testing.T) {
	t.Parallel()
	s, o := newLoopScene(t, Config{}), ownedJob(t, "acme", 1, 1)
	full, free := onlineHost("a", 2, 1), onlineHost("b", 2, 1)
	full.Foreign = 1
	w := &offersOf{}
	s.d.q = w
	for _, state := range []queue.HostState{full, free, free} {
		w.reply = queue.Reply{Answer: queue.Busy, State: state}
		s.d.offer(t.Context(), o, &spot{host: state.Host, free: true})
	}
	same(t, "offers for free slots alone", w.free, []bool{true, false, false})
}
