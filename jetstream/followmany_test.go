package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// An event may be stored between the question for the end of the stream and that for a job's events.
func TestAnEventOfAJobThatComesTwiceIsGivenOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 1), nil
		case 2:
			return page(2026, 2, "1 a.queued", "2 a.started"), nil
		}
		return page(2026, 3, "2 a.started", "3 a.completed"), nil
	})
	items, err := manyItems(t, t.Context(), url, 9, "a")
	if err != nil {
		t.Error(err)
	}
	wantItems(t, items, "a queued", "a started", "a completed")
}

func TestNobodyIsAskedForNoJobs(t *testing.T) {
	t.Parallel()
	for e, err := range jetstream.NewClient(connect(t, startNATS(t)), "acme").FollowMany(t.Context(), nil) {
		t.Errorf("%+v, %v", e, err)
	}
}

// manyItems gives what FollowMany tells of jobs until it ends, or until n events have come.
func manyItems(t *testing.T, ctx context.Context, url string, n int, ids ...jetstream.ID) (items []string, last error) {
	t.Helper()
	for e, err := range jetstream.NewClient(connect(t, url), "acme").FollowMany(ctx, ids) {
		if last = err; err == nil {
			items = append(items, fmt.Sprint(e.Job, " ", e.EventKind))
		}
		if len(items) == n {
			break
		}
	}
	return items, last
}

// A single job is followed by its own subject. When the stream is created again its events are given from the first on.
func TestOneJobIsFollowedAlone(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	var d *reader
	d = read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 5), nil // the end of the stream
		case 2:
			return page(2026, 3, "2 a.queued", "3 a.started"), nil
		case 3:
			return page(2026, 5), nil
		case 4:
			return page(2027, 9), nil
		}
		d.live("b.completed", 3)
		d.live("a.completed", 4)
		return page(2027, 2, "1 a.queued", "2 b.queued"), nil
	})
	items, err := manyItems(t, t.Context(), url, 9, "a")
	if err != nil {
		t.Error(err)
	}
	wantItems(t, items, "a queued", "a started", "a queued", "a completed")
	wantItems(t, d.asked, fmt.Sprint(" behind ", uint64(1)<<62), "a behind 0", "a behind 5", "a behind 5", "a behind 0")
}

func TestFollowingManyEndsWhenItCannotGoOn(t *testing.T) {
	t.Parallel()
	bad := &jetstream.BadRequest{Message: "no such job"}
	for name, c := range map[string]struct {
		err    error // of the stored events of a job
		wants  int
		cancel bool
		want   []string
		last   error
	}{
		"Wrong":         {bad, 9, false, nil, bad},
		"CallerHasSeen": {nil, 1, false, []string{"a queued"}, nil},
		"Cancelled":     {&jetstream.Failed{Message: "NATS is away"}, 9, true, nil, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startNATS(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
				if r.Job == "" {
					return page(2026, 5), nil
				}
				if c.cancel && n == 3 {
					cancel()
				}
				return page(2026, 2, "1 a.queued", "2 a.started"), c.err
			})
			items, err := manyItems(t, ctx, url, c.wants, "a")
			if c.last == nil && err != nil || c.last != nil && (err == nil || err.Error() != c.last.Error()) {
				t.Errorf("it ends with %v, want %v", err, c.last)
			}
			wantItems(t, items, c.want...)
		})
	}
}

// Many jobs are not a burst of requests: the events of eight are asked for, and the next when one has answered.
func TestTheEventsOfEightJobsAreAskedForAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ids []jetstream.ID
		for n := range 20 {
			ids = append(ids, jetstream.ID(fmt.Sprint("job-", n)))
		}
		b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
			if n == 1 {
				return &nats.Msg{Data: must(json.Marshal(page(2026, 0)))}
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, err := range jetstream.NewClient(nc, "acme").FollowMany(ctx, ids) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if synctest.Wait(); len(b.asked) != 1+8 {
			t.Errorf("asked %d times", len(b.asked))
		}
	})
}

// In the bubble nothing that still runs can be left.
func TestWhoWantsNoMoreEventsOfManyJobsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
			if n == 3 {
				return nil
			}
			return &nats.Msg{Data: must(json.Marshal(page(2026, 2, "1 a.queued", "1 b.queued")))}
		})
		for _, err := range jetstream.NewClient(nc, "acme").FollowMany(context.Background(), []jetstream.ID{"a", "b", "c", "d"}) {
			if err != nil {
				t.Error(err)
			}
			break
		}
	})
}

func TestTheStoredEventsOfAJobAreReadPageByPage(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	d := read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 9), nil
		case 2:
			a := page(2026, 4, "1 a.queued", "2 a.started")
			a.End = false
			return a, nil
		}
		return page(2026, 9, "5 a.failed", "7 a.dead"), nil
	})
	items, err := manyItems(t, t.Context(), url, 9, "a")
	if err != nil {
		t.Error(err)
	}
	wantItems(t, items, "a queued", "a started", "a failed", "a dead")
	wantItems(t, d.asked[1:], "a behind 0", "a behind 4")
}

// Those of the others would be waited for without an end.
func TestAJobThatCannotBeFollowedEndsTheFollowingOfAll(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch {
		case r.Job == "b":
			return jetstream.EventsAnswer{}, &jetstream.BadRequest{Message: "no such job"}
		case r.Job == "" && n > 1:
			cancel() // it goes on
		}
		return page(2026, 0), nil
	})
	if _, err := manyItems(t, ctx, url, 9, "a", "b"); jetstream.Code(err) != "400" {
		t.Error(err)
	}
}

// The context may end while the stored events of a job, or the pages after them, are asked for.
func TestFollowingEndsWithItsContextDuringACall(t *testing.T) {
	t.Parallel()
	for name, follow := range map[string]func(context.Context, *jetstream.Client) iter.Seq[error]{
		"One": func(ctx context.Context, c *jetstream.Client) iter.Seq[error] { return errorsOf(c.Follow(ctx, 0)) },
		"Many": func(ctx context.Context, c *jetstream.Client) iter.Seq[error] {
			return errorsOf(c.FollowMany(ctx, []jetstream.ID{"a"}))
		},
	} {
		for last := 1; last <= 3; last++ {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
					if n == last {
						cancel()
						return nil
					}
					return &nats.Msg{Data: must(json.Marshal(page(2026, 0)))}
				})
				var errs []error
				for err := range follow(ctx, jetstream.NewClient(nc, "acme")) {
					errs = append(errs, err)
				}
				if len(errs) != 1 || !errors.Is(errs[0], context.Canceled) || len(b.asked) != last {
					t.Errorf("%s: after %d calls: %v", name, len(b.asked), errs)
				}
			})
		}
	}
}

// Another program may publish what names another job on the subject of one.
func TestWhatNamesAnotherJobIsNoEventOfAJob(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	read(t, url, func(int, jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		a := page(2026, 3, "1 a.queued", "2 a.dead", "3 a.completed")
		a.Events[1].Event = body("b")
		return a, nil
	})
	items, err := manyItems(t, t.Context(), url, 9, "a")
	if err != nil {
		t.Error(err)
	}
	wantItems(t, items, "a queued", "a completed")
}
