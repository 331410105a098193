package queue_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// A first replay that takes long, while somebody writes, is not taken for one that misses changes.
func TestALongReplayIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{PresenceTTL: time.Second})
	kv := must(must(natsjs.New(nc)).KeyValue(ctx, names.CapabilitiesBucket))
	const keys = 3000
	for n := range keys {
		must(kv.Put(ctx, fmt.Sprint("host-", n), []byte("x")))
	}
	var resets atomic.Int64
	synced := make(chan struct{})
	watch(t, q.WatchCapabilities, func(c queue.Change[workflow.Capability]) {
		switch {
		case c.Phase == queue.Reset:
			resets.Add(1)
		case c.Phase == queue.Synced:
			close(synced)
		case resets.Load() == 1 && !done(synced):
			for n := range 3 {
				must(kv.Put(ctx, fmt.Sprint("other-", n), []byte("x")))
			}
		}
	})
	<-synced
	if n := resets.Load(); n != 1 {
		t.Errorf("it was begun %d times", n)
	}
}

func done(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Watches that end with updates on their way leave nothing behind.
func TestAnEndedWatchLeavesNothing(t *testing.T) { //nolint:paralleltest // it looks at all goroutines
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := must(queue.Open(ctx, nc, queue.Config{}))
	js := must(natsjs.New(nc))
	kv := must(js.KeyValue(ctx, names.CapabilitiesBucket))
	for n := range 2000 {
		must(kv.Put(ctx, fmt.Sprint("host-", n), []byte("x")))
	}
	for must(js.Stream(ctx, names.JobsStream)).CachedInfo().Sources[0].Active < 0 { // the server begins to read the source a while after Open
		<-time.After(time.Millisecond)
	}
	known := goleak.IgnoreCurrent()
	for range 20 {
		watching, stop := context.WithCancel(ctx)
		var ended sync.WaitGroup
		first := make(chan struct{})
		told := 0
		ended.Go(func() {
			_ = q.WatchCapabilities(watching, func(queue.Change[workflow.Capability]) {
				if told++; told == 10 {
					close(first)
					<-watching.Done() // while the others come
				}
			})
		})
		<-first
		must(kv.Put(ctx, "last", []byte("x"))) // the server has sent what was there
		stop()
		ended.Wait()
	}
	if err := goleak.Find(known); err != nil {
		t.Error(err)
	}
	q.Close()
}

// A bucket that is deleted under a watch is made again and watched again.
func TestABucketThatIsMadeAgainIsWatchedAgain(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{PresenceTTL: time.Second})
	js := must(natsjs.New(nc))
	changes := make(chan queue.Change[queue.TenantSettings], 64)
	watch(t, q.WatchTenants, func(c queue.Change[queue.TenantSettings]) { changes <- c })
	expect := func(want queue.Phase) {
		t.Helper()
		if c := <-changes; c.Phase != want {
			t.Fatalf("%+v, want phase %d", c, want)
		}
	}
	expect(queue.Reset)
	expect(queue.Synced)
	must(0, js.DeleteKeyValue(ctx, names.TenantsBucket))
	expect(queue.Reset)
	expect(queue.Synced)
	must(0, q.SetTenant(ctx, "acme", queue.TenantSettings{Weight: 2}))
	expect(queue.Put)
}

// A watch whose consumer the server has lost receives nothing; it is begun anew once something was written.
func TestAWatchThatMissesChangesIsBegunAnew(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{PresenceTTL: time.Second})
	phases := make(chan queue.Phase, 64)
	watch(t, q.WatchTenants, func(c queue.Change[queue.TenantSettings]) { phases <- c.Phase })
	expect := func(wants ...queue.Phase) {
		t.Helper()
		for _, want := range wants {
			if got := <-phases; got != want {
				t.Fatalf("phase %d, want %d", got, want)
			}
		}
	}
	expect(queue.Reset, queue.Synced)
	stream := must(must(natsjs.New(nc)).Stream(ctx, "KV_"+names.TenantsBucket))
	for name := range stream.ConsumerNames(ctx).Name() {
		must(0, stream.DeleteConsumer(ctx, name))
	}
	must(0, q.SetTenant(ctx, "acme", queue.TenantSettings{Weight: 2}))
	expect(queue.Reset, queue.Put, queue.Synced)
}

// The marker that a claim leaves, by which the ticket differs from one that never existed, expires.
func TestAClaimIsForgotten(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	ticket := queue.Ticket{Priority: 5, Tenant: "acme", Hash: aHash, Sequence: 7, Job: "one", Lease: aLease, Attempt: 1}
	revision := must(q.PutTicket(ctx, &ticket))
	if end := must(q.Claim(ctx, ticket.Key(), revision)); end == 0 {
		t.Fatal("it was not claimed")
	}
	stream := must(must(natsjs.New(nc)).Stream(ctx, "KV_"+names.WaitingBucket))
	left := must(stream.GetLastMsgForSubject(ctx, "$KV.COMFY_WAITING."+ticket.Key()))
	if ttl := left.Header.Get("Nats-TTL"); ttl != "5m0s" {
		t.Errorf("what is left of it lives %q", ttl)
	}
}

// A watcher does not know that its server has forgotten it; a new one is begun at once, and tells everything anew.
func TestAWatchIsBegunAnewAtAReconnect(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	nc := connect(t, server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	q := open(t, nc, queue.Config{PresenceTTL: time.Hour}) // nothing else begins it anew in time
	must(0, q.SetTenant(ctx, "acme", queue.TenantSettings{Weight: 2}))
	changes := make(chan queue.Phase, 64)
	watch(t, q.WatchTenants, func(c queue.Change[queue.TenantSettings]) { changes <- c.Phase })
	for range 2 {
		for _, want := range []queue.Phase{queue.Reset, queue.Put, queue.Synced} {
			select {
			case got := <-changes:
				if got != want {
					t.Fatalf("phase %d, want %d", got, want)
				}
			case <-time.After(time.Minute):
				t.Fatal("nothing is told")
			}
		}
		url := server.URL()
		must(0, server.Close())
		server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: dir}))
	}
}
