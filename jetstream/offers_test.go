package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAnOfferAfterReadyIsHeard(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, other := openOn(t, url), openOn(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	offer := jetstream.Offer{
		Message: job.Message{Tenant: "acme", Priority: 5}, Job: "a", Attempt: 1, Lease: "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0", AckWait: time.Minute,
	}
	for i := range 200 { // each is a chance to be too early
		host, ready := fmt.Sprintf("gpu-%d", i), make(chan struct{})
		served.Go(func() {
			_ = q.ServeOffers(ctx, host, func() { close(ready) }, func(_ jetstream.Offer, reply func(jetstream.Reply)) {
				reply(jetstream.Reply{Answer: jetstream.Busy, State: jetstream.HostState{Host: host, State: jetstream.Online}})
			})
		})
		<-ready
		r, err := other.Offer(ctx, host, &offer)
		for errors.Is(err, jetstream.ErrNoAnswer) { // which is what a machine that stands still gives
			r, err = other.Offer(ctx, host, &offer)
		}
		if err != nil || r.Answer != jetstream.Busy {
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
