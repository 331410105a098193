package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// nothing is the answer to a request that nobody answers.
func nothing(int, string) *nats.Msg { return nil }

// wantAsked compares when requests came.
func wantAsked(t *testing.T, b *bubbleNATS, want ...time.Duration) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, b.asked); diff != "" {
		t.Error(diff)
	}
}

func TestAPublishWithoutADeadlineWaitsFiveSeconds(t *testing.T) {
	t.Parallel()
	for deadline, want := range map[time.Duration]time.Duration{0: 5 * time.Second, 7 * time.Second: 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b, nc := connectInBubble(t, nothing)
			ctx := t.Context()
			if deadline > 0 {
				limited, cancel := context.WithTimeout(ctx, deadline)
				defer cancel()
				ctx = limited
			}
			_, err := jetstream.NewClient(nc, "acme").Submit(ctx, 5, jetstream.Spec{Workflow: []byte(workflow)})
			if took := time.Since(b.begun); !errors.Is(err, context.DeadlineExceeded) || took != want {
				t.Errorf("with a deadline of %s it ends after %s: %v", deadline, took, err)
			}
		})
	}
}

// A stream that is choosing its leader does not answer for a moment.
func TestAPublishThatNoStreamTakesIsSentAgainAfterAPause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit time.Duration
		takes int // the try that a stream takes; 0: none
		want  []time.Duration
	}{
		"Never":     {time.Minute, 0, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}},
		"AtTheLast": {time.Minute, 3, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}},
		"AtOnce":    {time.Minute, 1, []time.Duration{0}},
		"NoTime":    {300 * time.Millisecond, 0, []time.Duration{0, 250 * time.Millisecond}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
				if n == c.takes {
					return &nats.Msg{Data: []byte(`{"stream":"COMFY_JOBS","seq":41}`)}
				}
				return &nats.Msg{Header: nats.Header{"Status": {"503"}}}
			})
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			got, err := jetstream.NewClient(nc, "acme").Submit(ctx, 5, jetstream.Spec{Workflow: []byte(workflow)})
			if taken := got.Sequence == 41; taken != (c.takes > 0) || taken != (err == nil) || errors.Is(err, nats.ErrNoResponders) == taken {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			wantAsked(t, b, c.want...)
		})
	}
}

func TestAJobLeavesRoomInItsMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nc := connectInBubble(t, func(int, string) *nats.Msg { return &nats.Msg{Data: []byte(`{"stream":"COMFY_JOBS","seq":41}`)} })
		most := int(nc.MaxPayload()) - 4096
		for size, large := range map[int]bool{most: false, most + 1: true} {
			msg := nats.NewMsg("comfy.jobs.acme.7")
			msg.Data = make([]byte, size)
			if _, err := jetstream.Publish(t.Context(), nc, msg); errors.Is(err, jetstream.ErrTooLarge) != large || !large && err != nil {
				t.Errorf("a job of %d bytes: %v", size, err)
			}
		}
	})
}

func TestACallWithoutAnAnswerEndsAfterEighteenSeconds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call func(context.Context, *jetstream.Client) error
		want []time.Duration
	}{
		"Changes": {func(ctx context.Context, c *jetstream.Client) error {
			_, err := c.Cancel(ctx, jetstream.CancelRequest{All: true})
			return err
		}, []time.Duration{0}},
		"ChangesNothing": {func(ctx context.Context, c *jetstream.Client) error {
			_, err := c.Queue(ctx)
			return err
		}, []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, nc := connectInBubble(t, nothing)
			err := c.call(t.Context(), jetstream.NewClient(nc, "acme"))
			if took := time.Since(b.begun); !errors.Is(err, context.DeadlineExceeded) || took != 18*time.Second {
				t.Errorf("%s: it ends after %s: %v", name, took, err)
			}
			wantAsked(t, b, c.want...)
		})
	}
}

// The call goes to another dispatcher then, whose answer counts.
func TestACallToADispatcherThatIsStoppingIsMadeAgainAfterAPause(t *testing.T) {
	t.Parallel()
	missing := &jetstream.NotFound{Message: "no such job"}
	for name, c := range map[string]struct {
		answer *nats.Msg
		code   string
	}{
		"Answer": {&nats.Msg{Data: []byte("{}")}, ""}, "Refusal": {refusal(missing), "404"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
				if n < 3 {
					return refusal(&jetstream.Stopping{Message: "it is stopping"})
				}
				return c.answer
			})
			_, err := jetstream.NewClient(nc, "acme").Cancel(t.Context(), jetstream.CancelRequest{Job: "a"})
			if (err == nil) != (c.code == "") || err != nil && jetstream.Code(err) != c.code {
				t.Errorf("%s: %v", name, err)
			}
			wantAsked(t, b, 0, 100*time.Millisecond, 200*time.Millisecond)
		})
	}
}

// A live event may be lost without a sign.
func TestWhatIsFollowedIsReadInPagesEveryThirtySeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
			switch n {
			case 3:
				return &nats.Msg{Data: must(json.Marshal(page(2026, 1, "1 a.queued")))}
			case 4, 5:
				return refusal(&jetstream.Failed{Message: "NATS is away"})
			case 6:
				return &nats.Msg{Data: must(json.Marshal(page(2026, 2, "2 a.started")))}
			}
			return &nats.Msg{Data: must(json.Marshal(page(2026, 0)))}
		})
		items := 0
		for n, err := range jetstream.NewClient(nc, "acme").Follow(t.Context(), 0) {
			if items++; err != nil || n.Sequence != uint64(items) {
				t.Fatalf("%+v, %v", n, err)
			}
			if items == 2 {
				break
			}
		}
		wantAsked(t, b, 0, 0, 30*time.Second, 60*time.Second, 60*time.Second+250*time.Millisecond, 60*time.Second+500*time.Millisecond)
	})
}

func TestTheEventsOfAJobAreAskedForAgainAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, nc := connectInBubble(t, func(n int, _ string) *nats.Msg {
			if n == 2 || n == 3 {
				return refusal(&jetstream.Failed{Message: "NATS is away"})
			}
			return &nats.Msg{Data: must(json.Marshal(page(2026, 2, "1 a.queued", "2 a.completed")))}
		})
		for _, err := range jetstream.NewClient(nc, "acme").FollowMany(t.Context(), []jetstream.ID{"a"}) {
			if err != nil {
				t.Error(err)
			}
		}
		wantAsked(t, b, 0, 0, 250*time.Millisecond, 500*time.Millisecond)
	})
}
