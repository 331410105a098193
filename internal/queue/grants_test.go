package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Two machines may write from copies of one folder, of which one is older.
func TestAnOlderWordOnAHostDoesNotReplaceANewerOne(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	newer := queue.HostGrant{Tenants: []job.Tenant{"acme"}, Slots: 2, Time: noon}
	older := queue.HostGrant{Tenants: []job.Tenant{"bolt"}, Time: noon.Add(-time.Second)}
	if err := queue.PutGrants(ctx, nc, queue.Config{}, map[string]queue.HostGrant{"a": newer}); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, names.GrantsBucket)
	if err != nil {
		t.Fatal(err)
	}
	stands := func() (queue.HostGrant, uint64) {
		t.Helper()
		entry, err := kv.Get(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		g, err := queue.GrantOf(queue.Entry{Key: "a", Value: entry.Value()})
		if err != nil {
			t.Fatal(err)
		}
		return g, entry.Revision()
	}
	_, first := stands()
	for _, g := range []queue.HostGrant{older, newer} {
		if err := q.PutGrant(ctx, "a", g); err != nil {
			t.Fatal(err)
		}
	}
	g, revision := stands()
	if diff := cmp.Diff(newer, g); diff != "" || revision != first {
		t.Errorf("revision %d, then %d: %s", first, revision, diff)
	}
	same := queue.HostGrant{Slots: 7, Time: noon} // said in the same second
	if err := q.PutGrant(ctx, "a", same); err != nil {
		t.Fatal(err)
	}
	if g, _ := stands(); !cmp.Equal(same, g) {
		t.Errorf("stands %+v", g)
	}
	if _, err := kv.PutString(ctx, "a", "junk"); err != nil {
		t.Fatal(err)
	}
	if err := q.PutGrant(ctx, "a", older); err != nil {
		t.Fatal(err)
	}
	if g, _ := stands(); !cmp.Equal(older, g) {
		t.Errorf("in place of junk stands %+v", g)
	}
	if err := q.PutGrant(ctx, "a", queue.HostGrant{Tenants: []job.Tenant{"a b"}, Time: noon}); err == nil {
		t.Error("a name that is no tenant's was stored")
	}
}
