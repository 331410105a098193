package queue_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// announce announces the changes of blocks until the test ends, and gives the events.
func announce(t *testing.T, q *queue.Queue) <-chan jetstream.Note {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	notes, ended := make(chan jetstream.Note, 16), make(chan struct{}, 2)
	go func() {
		defer func() { ended <- struct{}{} }()
		_ = q.AnnounceBlocks(ctx, "test", func(err error) { t.Log(err) })
	}()
	go func() {
		defer func() { ended <- struct{}{} }()
		for n, err := range q.Notes(ctx, "comfy.events.blocks.>", time.Unix(0, 0)) {
			if err != nil {
				return
			}
			notes <- n
		}
	}()
	t.Cleanup(func() { cancel(); <-ended; <-ended })
	return notes
}

func TestEachChangeOfABlockIsAnnouncedOnceWithItsCause(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	must(q.PutStrikes(ctx, "gpu", aHash, []byte(`{}`), time.Minute, 0)) // strikes are not announced
	notes := announce(t, q)
	expect := func(host, kind string) jetstream.Note {
		t.Helper()
		n := <-notes
		if want := "comfy.events.blocks." + host + "." + aHash + "." + kind; n.Subject != want || n.Header.Get("ce-type") != "comfy.block."+kind {
			t.Errorf("announced as %s, %v; want %s", n.Subject, n.Header, want)
		}
		return n
	}
	unblocked := func(n jetstream.Note) queue.Unblocked {
		t.Helper()
		var u queue.Unblocked
		must(0, json.Unmarshal(n.Body, &u))
		if u.Time.IsZero() {
			t.Error("it does not say when")
		}
		u.Time = time.Time{}
		return u
	}
	revision := func(host string) uint64 { return must(q.Block(ctx, host, aHash)).Revision }
	block := fullBlock("acme")
	must(q.OpenBlock(ctx, "gpu", aHash, block, time.Hour))
	if n := expect("gpu", "blocked"); string(n.Body) != string(block) {
		t.Errorf("the event of a block is %s", n.Body)
	}
	must(q.LiftBlock(ctx, "gpu", aHash, revision("gpu"), queue.Recovered))
	if diff := cmp.Diff(queue.Unblocked{Host: "gpu", Hash: aHash, Cause: queue.Recovered}, unblocked(expect("gpu", "unblocked"))); diff != "" {
		t.Error(diff)
	}
	must(q.OpenBlock(ctx, "two", aHash, fullBlock("acme"), time.Second))
	expect("two", "blocked")
	if diff := cmp.Diff(queue.Unblocked{Host: "two", Hash: aHash, Cause: queue.Expired}, unblocked(expect("two", "unblocked"))); diff != "" {
		t.Error(diff)
	}
}

func TestTheEndOfABlockThatWasNeverAnnouncedIsNoEvent(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	must(q.OpenBlock(ctx, "gpu", aHash, fullBlock("acme"), time.Hour))
	must(q.LiftBlock(ctx, "gpu", aHash, must(q.Block(ctx, "gpu", aHash)).Revision, queue.Cleared)) // the bucket keeps only this
	notes := announce(t, q)
	must(q.OpenBlock(ctx, "two", aHash, fullBlock("acme"), time.Hour))
	if n := <-notes; n.Subject != "comfy.events.blocks.two."+aHash+".blocked" {
		t.Errorf("announced: %s", n.Subject)
	}
}
