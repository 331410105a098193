package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

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
	for i := range 200 { // each is a chance to be too early
		host, ready := fmt.Sprintf("gpu-%d", i), make(chan struct{})
		served.Go(func() {
			_ = q.ServeOffers(ctx, host, func() { close(ready) }, func(_ jetstream.Offer, reply func(jetstream.Reply)) {
				reply(jetstream.Reply{Answer: jetstream.Busy})
			})
		})
		<-ready
		r, err := other.Offer(ctx, host, &jetstream.Offer{Job: "a", Lease: "$JS.ACK.a"})
		for errors.Is(err, jetstream.ErrNoAnswer) { // which is what a machine that stands still gives
			r, err = other.Offer(ctx, host, &jetstream.Offer{Job: "a", Lease: "$JS.ACK.a"})
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
