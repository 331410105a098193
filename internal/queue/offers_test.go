package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAnOfferAfterReadyIsHeard(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, other := openOn(t, url), openOn(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	for i := range 200 { // each is a chance to be too early
		host, ready := fmt.Sprintf("gpu-%d", i), make(chan struct{})
		served.Go(func() {
			_ = q.ServeOffers(ctx, host, func() { close(ready) }, func(_ queue.Offer, reply func(queue.Reply)) {
				reply(queue.Reply{Answer: queue.Busy, State: queue.HostState{Host: host, State: queue.Online}})
			})
		})
		<-ready
		r, err := other.Offer(ctx, host, plainOffer())
		for errors.Is(err, queue.ErrNoAnswer) { // which is what a machine that stands still gives
			r, err = other.Offer(ctx, host, plainOffer())
		}
		if err != nil || r.Answer != queue.Busy {
			t.Fatalf("the first offer to %s was answered %q, %v", host, r.Answer, err)
		}
	}
}

func TestNobodyIsReadyWhoseContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := openQueue(t).ServeOffers(ctx, "gpu", func() { t.Error("ready") }, nil)
	if err == nil {
		t.Error("it ended without an error")
	}
}

func plainOffer() *queue.Offer {
	return &queue.Offer{
		Message: job.Message{Tenant: "acme", Priority: 5, Sequence: 1}, Job: "a", Attempt: 1, Lease: "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0", AckWait: time.Minute,
		Hash: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	}
}

// An agent would divide a lease of no time by three, and tell everybody a negative attempt.
func TestAnOfferWithANumberThatCannotBeReachesNoAgent(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, other := openOn(t, url), openOn(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	ready := make(chan struct{})
	served.Go(func() {
		_ = q.ServeOffers(ctx, "gpu", func() { close(ready) }, func(_ queue.Offer, reply func(queue.Reply)) {
			reply(queue.Reply{Answer: queue.Accepted, State: queue.HostState{Host: "gpu", State: queue.Online}})
		})
	})
	<-ready
	for name, c := range map[string]struct {
		edit func(o *queue.Offer)
		want string // in the answer; empty: it is taken
	}{
		"AsItShouldBe":      {func(*queue.Offer) {}, ""},
		"ASecondOfLease":    {func(o *queue.Offer) { o.AckWait = time.Second }, ""},
		"AnHourOfLease":     {func(o *queue.Offer) { o.AckWait = time.Hour }, ""},
		"NoLeaseTime":       {func(o *queue.Offer) { o.AckWait = 0 }, "Comfy-Ack-Wait"},
		"LessThanASecond":   {func(o *queue.Offer) { o.AckWait = 999 * time.Millisecond }, "Comfy-Ack-Wait"},
		"NegativeLeaseTime": {func(o *queue.Offer) { o.AckWait = -time.Minute }, "Comfy-Ack-Wait"},
		"MoreThanAnHour":    {func(o *queue.Offer) { o.AckWait = time.Hour + 1 }, "Comfy-Ack-Wait"},
		"NoAttempt":         {func(o *queue.Offer) { o.Attempt = 0 }, "the attempt"},
		"NegativeAttempt":   {func(o *queue.Offer) { o.Attempt = -1 }, "the attempt"},
		"PriorityTen":       {func(o *queue.Offer) { o.Message.Priority = 10 }, "priority"},
		"NegativePriority":  {func(o *queue.Offer) { o.Message.Priority = -1 }, "priority"},
		"NoSequence":        {func(o *queue.Offer) { o.Message.Sequence = 0 }, "Comfy-Sequence"},
		"ATenantWithADot":   {func(o *queue.Offer) { o.Message.Tenant = "a.b" }, "a.b"},
		"AJobWithADot":      {func(o *queue.Offer) { o.Job = "a.b" }, "a.b"},
		"AShortHash":        {func(o *queue.Offer) { o.Hash = "abc" }, "hash"},
		"AHashOfLetters":    {func(o *queue.Offer) { o.Hash = "x" + o.Hash[1:] }, "hash"},
	} {
		t.Run(name, func(t *testing.T) {
			o := plainOffer()
			c.edit(o)
			r, err := other.Offer(ctx, "gpu", o)
			for errors.Is(err, queue.ErrNoAnswer) { // as above
				r, err = other.Offer(ctx, "gpu", o)
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && r.Answer != queue.Accepted || c.want != "" && (r.Answer != queue.Unfit || !strings.Contains(r.Reason, c.want)) {
				t.Errorf("it was answered %s: %s", r.Answer, r.Reason)
			}
		})
	}
}
