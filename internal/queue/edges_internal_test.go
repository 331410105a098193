package queue

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// A lifetime that NATS rounds down would end a block too early.
func TestLifetimesAreRoundedUpToSeconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]time.Duration{
		-time.Minute: time.Second, 0: time.Second, 1: time.Second, time.Second: time.Second, time.Second + 1: 2 * time.Second,
		90 * time.Second: 90 * time.Second, 90*time.Second + time.Millisecond: 91 * time.Second,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%s becomes %s, want %s", d, got, want)
		}
	}
}

func TestAStreamGetsHalfAsMuchUntilNATSHasRoomForIt(t *testing.T) {
	t.Parallel()
	bucket, live, jobs := natsjs.StreamConfig{DenyDelete: true}, natsjs.StreamConfig{Name: names.LiveStream}, natsjs.StreamConfig{Name: names.JobsStream}
	if least(&bucket) != leastBucket || least(&live) != leastBucket || least(&jobs) != leastStream || leastBucket >= leastStream {
		t.Errorf("at least %d, %d and %d", least(&bucket), least(&live), least(&jobs))
	}
	noRoom := &natsjs.APIError{Code: 500, ErrorCode: 10047, Description: "insufficient storage resources available"}
	for room, want := range map[int64]int64{1000: 1000, 999: 500, 100: 62, 49: -1} {
		var asked int64
		_, err := store(t.Context(), func(_ context.Context, cfg natsjs.StreamConfig) (natsjs.Stream, error) {
			if asked = cfg.MaxBytes; asked > room {
				return nil, noRoom
			}
			return nil, nil //nolint:nilnil // only the error counts
		}, natsjs.StreamConfig{MaxBytes: 1000}, 50)
		if want < 0 && err == nil || want >= 0 && (err != nil || asked != want) {
			t.Errorf("with room for %d: %d was asked for, %v", room, asked, err)
		}
	}
}

func TestOffersHaveTheirBounds(t *testing.T) {
	t.Parallel()
	offer := func(edit func(*Offer)) error {
		o := Offer{
			Message: job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Received: time.Unix(1, 0)}, Job: "a",
			Hash: workflow.Hash(strings.Repeat("0", 64)), Attempt: 1, AckWait: time.Minute,
		}
		edit(&o)
		return o.check()
	}
	for name, c := range map[string]struct {
		edit  func(*Offer)
		wrong string
	}{
		"Usual":         {func(*Offer) {}, ""},
		"ShortestWait":  {func(o *Offer) { o.AckWait = time.Second }, ""},
		"LongestWait":   {func(o *Offer) { o.AckWait = time.Hour }, ""},
		"TooShortAWait": {func(o *Offer) { o.AckWait = time.Second - 1 }, "must be 1s to 1h"},
		"TooLongAWait":  {func(o *Offer) { o.AckWait = time.Hour + 1 }, "must be 1s to 1h"},
		"NoAttempt":     {func(o *Offer) { o.Attempt = 0 }, "must be at least 1"},
		"NoSequence":    {func(o *Offer) { o.Message.Sequence = 0 }, names.SequenceHeader},
	} {
		err := offer(c.edit)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTextsThatJSONWouldChangeAreOdd(t *testing.T) {
	t.Parallel()
	for text, odd := range map[string]bool{"": false, "a b": false, "1.5µs": false, "\x1f": true, `a\b`: true, "\xff": true, "\n": true} {
		if needsDecoder(text) != odd {
			t.Errorf("%q is odd: %t", text, !odd)
		}
	}
}

func TestNumbersOfAStateAreDecimal(t *testing.T) {
	t.Parallel()
	run := RunningJob{Tenant: "acme", Job: "a", Priority: 9, Hash: "0", Attempt: 23, Since: time.Unix(1, 0).UTC()}
	var read RunningJob
	if err := json.Unmarshal(run.append(nil), &read); err != nil || read != run {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestAnAnswerEndsItsCall(t *testing.T) {
	t.Parallel()
	waits := &call{answer: make(chan *nats.Msg, 2)}
	c := &calls{waiting: map[uint64]*call{35: waits}}
	for _, subject := range []string{"_INBOX.x.-", "_INBOX.x.zz", "_INBOX.x.z", "_INBOX.x.z"} { // no number, an unknown one, ours, and ours again
		c.receive(&nats.Msg{Subject: subject})
	}
	if len(waits.answer) != 1 || len(c.waiting) != 0 {
		t.Errorf("%d answers, %d calls wait", len(waits.answer), len(c.waiting))
	}
}
