package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func waitingTicket(sequence uint64) *queue.Ticket {
	return &queue.Ticket{
		Priority: 5, Tenant: "acme", Hash: aHash, Sequence: sequence, Job: "one", Attempt: 1,
		Lease: queue.Lease(fmt.Sprintf("$JS.ACK.COMFY_JOBS.dispatch_5.1.%d.3.1790000000000000000.0", sequence)),
	}
}

// After a restart of NATS the watch of tickets tells only what has changed.
func TestAWatchOfTicketsGoesOnAtAReconnect(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	nc := connect(t, server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	q := open(t, nc, queue.Config{PresenceTTL: time.Hour})
	for n := range uint64(20) {
		must(q.PutTicket(ctx, waitingTicket(n+1)))
	}
	changes := make(chan queue.Change[queue.Ticket], 64)
	watch(t, q.WatchTickets, func(c queue.Change[queue.Ticket]) { changes <- c })
	expect := func(phase queue.Phase, sequence uint64) {
		t.Helper()
		select {
		case c := <-changes:
			if c.Phase != phase || sequence != 0 && c.Key != waitingTicket(sequence).Key() {
				t.Fatalf("%+v, want phase %d of %d", c, phase, sequence)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
		}
	}
	expect(queue.Reset, 0)
	for n := range uint64(20) {
		expect(queue.Put, n+1)
	}
	expect(queue.Synced, 0)
	for n := range uint64(3) {
		reconnected := make(chan struct{})
		nc.SetReconnectHandler(func(*nats.Conn) { close(reconnected) })
		url := server.URL()
		must(0, server.Close())
		server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: dir}))
		<-reconnected
		must(q.PutTicket(ctx, waitingTicket(100+n)))
		expect(queue.Put, 100+n)
		must(q.Claim(ctx, waitingTicket(100+n).Key(), 21+2*n))
		expect(queue.Gone, 100+n)
	}
}

// watchedStream is a bucket with some keys, of which a watch has told all.
type watchedStream struct {
	t      *testing.T
	kv     natsjs.KeyValue
	stream natsjs.Stream
	told   []queue.Entry
}

func watchedKeys(t *testing.T, keys ...string) *watchedStream {
	t.Helper()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	open(t, nc, queue.Config{})
	js := must(natsjs.New(nc))
	w := &watchedStream{t: t, kv: must(js.KeyValue(ctx, names.StrikesBucket)), stream: must(js.Stream(ctx, names.BucketStream(names.StrikesBucket)))}
	for _, key := range keys {
		w.told = append(w.told, w.put(key))
	}
	return w
}

func (w *watchedStream) put(key string) queue.Entry {
	must(w.kv.PutString(w.t.Context(), key, "x"))
	e := must(w.kv.Get(w.t.Context(), key))
	return queue.Entry{Phase: queue.Put, Key: key, Revision: e.Revision(), Time: e.Created()}
}

// after is where the watch goes on.
func (w *watchedStream) after(made, at time.Time) uint64 {
	var r queue.Resumption
	for _, e := range w.told {
		r.Told(e, made, at)
	}
	r.Told(queue.Entry{Phase: queue.Synced}, made, at)
	return r.After(context.Background(), w.stream, w.kv)
}

func TestAWatchGoesOnOnlyWhereNothingCanBeMissed(t *testing.T) {
	t.Parallel()
	w := watchedKeys(t, "a", "b", "c")
	made, now := w.stream.CachedInfo().Created, time.Now()
	expect := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: it goes on behind revision %d, want %d", what, got, want)
		}
	}
	expect("all stand as they were told", w.after(made, now), 3)
	expect("it was away for minutes", w.after(made, now.Add(-3*time.Minute)), 0)
	expect("the bucket was made again", w.after(made.Add(-time.Second), now), 0)
	other := w.told[2]
	w.told[2].Time = other.Time.Add(-time.Second)
	expect("the server has lost the last one and has another at its revision", w.after(made, now), 0)
	w.told[2].Time, w.told[2].Revision = other.Time, 9
	expect("the server has lost the last one", w.after(made, now), 0)
	w.told[2] = other
	w.put("c")
	expect("the last key was written again", w.after(made, now), 2)
	w.put("b")
	w.put("a")
	expect("all were", w.after(made, now), 0)
	must(0, w.stream.Purge(t.Context()))
	expect("they were purged by hand", w.after(made, now), 0)
}
