package queue_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// fullBlock is a block as it is stored.
func fullBlock(tenants ...route.Tenant) []byte {
	return must(json.Marshal(&route.Block{
		Host: "gpu", Hash: aHash, Kind: failure.Timeout, Tenants: tenants, Until: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}))
}

// ttlOf is the TTL that a key was stored with.
func ttlOf(t *testing.T, js natsjs.JetStream, bucket, key string) string {
	t.Helper()
	stream := must(js.Stream(t.Context(), "KV_"+bucket))
	return must(stream.GetLastMsgForSubject(t.Context(), "$KV."+bucket+"."+key)).Header.Get("Nats-TTL")
}

func TestABlockIsOpenedOnceAndChangedOnlyAtItsRevision(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	js, key := must(natsjs.New(nc)), "gpu."+aHash
	if c := must(q.Block(ctx, "gpu", aHash)); c.Phase != queue.Gone || c.Revision != 0 || c.Key != key {
		t.Errorf("before it is opened: %+v", c)
	}
	for _, want := range []bool{true, false} {
		if opened := must(q.OpenBlock(ctx, "gpu", aHash, fullBlock("acme"), 90*time.Second+1)); opened != want {
			t.Errorf("opened: %t, want %t", opened, want)
		}
	}
	if ttl := ttlOf(t, js, names.BlocksBucket, key); ttl != "1m31s" {
		t.Errorf("it lives %s, want a second more than what was asked for, since NATS counts whole ones", ttl)
	}
	first := must(q.Block(ctx, "gpu", aHash))
	if first.Phase != queue.Put || !cmp.Equal(first.Value.Tenants, []route.Tenant{"acme"}) || first.Time.IsZero() {
		t.Errorf("it stands as %+v", first)
	}
	if must(q.ReplaceBlock(ctx, "gpu", aHash, fullBlock("*"), time.Minute, first.Revision+1)) {
		t.Error("it was replaced at another revision")
	}
	if !must(q.ReplaceBlock(ctx, "gpu", aHash, fullBlock("*"), time.Millisecond, first.Revision)) {
		t.Error("it was not replaced at its revision")
	}
	if ttl := ttlOf(t, js, names.BlocksBucket, key); ttl != "1s" {
		t.Errorf("the replaced one lives %s, want the shortest time that NATS has", ttl)
	}
	must(q.ReplaceBlock(ctx, "gpu", aHash, fullBlock("*"), time.Hour, must(q.Block(ctx, "gpu", aHash)).Revision))
	var listed []route.Tenant
	must(0, q.Blocks(ctx, func(c queue.Change[route.Block]) { listed = append(listed, c.Value.Tenants...) }))
	if diff := cmp.Diff([]route.Tenant{"*"}, listed); diff != "" {
		t.Errorf("the blocks in force: %s", diff)
	}
	if must(q.LiftBlock(ctx, "gpu", aHash, first.Revision, queue.Recovered)) {
		t.Error("it was lifted at an older revision")
	}
	if !must(q.LiftBlock(ctx, "gpu", aHash, must(q.Block(ctx, "gpu", aHash)).Revision, queue.Recovered)) {
		t.Error("it was not lifted at its revision")
	}
	if c := must(q.Block(ctx, "gpu", aHash)); c.Phase != queue.Gone || c.Revision != 0 {
		t.Errorf("after it was lifted: %+v", c)
	}
	if !must(q.OpenBlock(ctx, "gpu", aHash, fullBlock("acme"), time.Minute)) {
		t.Error("it could not be opened again")
	}
}

// Any program with the permission can write into the bucket.
func TestABlockThatIsNotValidIsSeenAndCanBeLifted(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	must(q.OpenBlock(ctx, "gpu", aHash, []byte(`junk`), time.Minute))
	c := must(q.Block(ctx, "gpu", aHash))
	if c.Phase != queue.Invalid || c.Revision == 0 {
		t.Errorf("it stands as %+v", c)
	}
	phases := map[queue.Phase]int{}
	must(0, q.Blocks(ctx, func(c queue.Change[route.Block]) { phases[c.Phase]++ }))
	if diff := cmp.Diff(map[queue.Phase]int{queue.Invalid: 1}, phases); diff != "" {
		t.Error(diff)
	}
	if !must(q.LiftBlock(ctx, "gpu", aHash, c.Revision, queue.Cleared)) {
		t.Error("it was not lifted")
	}
}

func TestStrikesAreChangedOnlyAtTheirRevision(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	for _, want := range []bool{true, false} {
		if stored := must(q.PutStrikes(ctx, "gpu", aHash, []byte(`{"level":1}`), time.Minute, 0)); stored != want {
			t.Errorf("new strikes stored: %t, want %t", stored, want)
		}
	}
	js := must(natsjs.New(nc))
	if ttl := ttlOf(t, js, names.StrikesBucket, "gpu."+aHash); ttl != "1m0s" {
		t.Errorf("they live %s", ttl)
	}
	c := must(q.Strikes(ctx, "gpu", aHash))
	if c.Phase != queue.Put || c.Value.Level != 1 {
		t.Errorf("they stand as %+v", c)
	}
	if must(q.PutStrikes(ctx, "gpu", aHash, []byte(`{"level":2}`), time.Minute, c.Revision+1)) {
		t.Error("they were replaced at another revision")
	}
	if !must(q.PutStrikes(ctx, "gpu", aHash, []byte(`{"level":3}`), 2*time.Minute, c.Revision)) {
		t.Error("they were not replaced at their revision")
	}
	if ttl := ttlOf(t, js, names.StrikesBucket, "gpu."+aHash); ttl != "2m0s" {
		t.Errorf("the replaced ones live %s", ttl)
	}
	if must(q.ClearStrikes(ctx, "gpu", aHash, c.Revision)) {
		t.Error("they were cleared at an older revision")
	}
	c = must(q.Strikes(ctx, "gpu", aHash))
	if c.Value.Level != 3 || !must(q.ClearStrikes(ctx, "gpu", aHash, c.Revision)) {
		t.Errorf("%+v were not cleared at their revision", c)
	}
	if c := must(q.Strikes(ctx, "gpu", aHash)); c.Phase != queue.Gone || c.Revision != 0 {
		t.Errorf("after they were cleared: %+v", c)
	}
}

func TestATicketIsClaimedOnceAndLeavesTheTimeOfThat(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	due := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	put := queue.Ticket{
		Priority: 5, Tenant: "acme", Hash: aHash, Sequence: 7, Job: "one", Lease: aLease, Attempt: 2, Size: 9, NotBefore: &due,
		PreferHosts: []string{"a"}, Received: due.Add(-time.Hour),
	}
	expect := func(what string, wantFound, wantClaimed bool) queue.Ticket {
		t.Helper()
		got, found, claimed, err := q.Ticket(ctx, put.Key())
		if err != nil || found != wantFound || claimed.IsZero() == wantClaimed {
			t.Errorf("%s: found %t, claimed at %v, %v", what, found, claimed, err)
		}
		return got
	}
	expect("before it was put", false, false)
	put.Revision = must(q.PutTicket(ctx, &put))
	if diff := cmp.Diff(put, expect("while it stands", true, false)); diff != "" {
		t.Error(diff)
	}
	second := put
	second.Sequence, second.Lease = 8, "$JS.ACK.COMFY_JOBS.dispatch_5.1.8.3.1790000000000000000.0"
	must(q.PutTicket(ctx, &second))
	if since := must(q.TicketLog(ctx)).First; since != put.Revision {
		t.Errorf("the oldest ticket has revision %d, want %d", since, put.Revision)
	}
	if must(q.Claim(ctx, put.Key(), put.Revision+1)) != 0 {
		t.Error("it was claimed at another revision")
	}
	if must(q.Claim(ctx, put.Key(), put.Revision)) != put.Revision+2 || must(q.Claim(ctx, put.Key(), put.Revision)) != 0 {
		t.Error("it was not claimed once")
	}
	expect("after the claim", false, true)
	if since := must(q.TicketLog(ctx)).First; since <= put.Revision {
		t.Errorf("the oldest ticket has revision %d, and one of %d was claimed", since, put.Revision)
	}
	kv := must(must(natsjs.New(nc)).KeyValue(ctx, names.WaitingBucket))
	must(kv.PutString(ctx, second.Key(), "junk"))
	if _, found, claimed, err := q.Ticket(ctx, second.Key()); found || !claimed.IsZero() || err != nil {
		t.Errorf("a ticket that is not valid: found %t, claimed %v, %v", found, claimed, err)
	}
}

func TestSlotsAreChangedOnlyAtTheirRevision(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	taken := []queue.Slot{{Job: "one", Host: "gpu", By: "me", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	expect := func(what string, want []queue.Slot) uint64 {
		t.Helper()
		got, revision, err := q.Slots(ctx, "acme")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", what, err, diff)
		}
		return revision
	}
	if revision := expect("before", nil); revision != 0 || !must(q.PutSlots(ctx, "acme", taken, revision)) {
		t.Error("the first slot was not taken")
	}
	revision := expect("taken", taken)
	if must(q.PutSlots(ctx, "acme", nil, revision-1)) || must(q.PutSlots(ctx, "acme", nil, 0)) {
		t.Error("they were changed at another revision")
	}
	kv := must(must(natsjs.New(nc)).KeyValue(ctx, names.SlotsBucket))
	must(kv.PutString(ctx, "acme", "junk"))
	if !must(q.PutSlots(ctx, "acme", taken, expect("not valid", nil))) {
		t.Error("what is not valid was not replaced")
	}
	must(0, kv.Purge(ctx, "acme"))
	expect("removed by hand", nil)
}

func TestATenantWithoutSettingsHasTheWeightOne(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	usual, own := queue.TenantSettings{Weight: 1}, queue.TenantSettings{Weight: 3, MaxRunning: 2}
	must(0, q.SetTenant(ctx, "acme", own))
	kv := must(must(natsjs.New(nc)).KeyValue(ctx, names.TenantsBucket))
	must(kv.PutString(ctx, "bolt", `{"weight":-1}`))
	must(kv.PutString(ctx, "coral", `{"max_running":4}`))
	for tenant, want := range map[job.Tenant]queue.TenantSettings{
		"acme": own, "bolt": usual, "coral": {Weight: 1, MaxRunning: 4}, "delta": usual,
	} {
		if diff := cmp.Diff(want, must(q.Tenant(ctx, tenant))); diff != "" {
			t.Errorf("%s: %s", tenant, diff)
		}
	}
	want := map[job.Tenant]queue.TenantSettings{"acme": own, "coral": {Weight: 1, MaxRunning: 4}}
	if diff := cmp.Diff(want, must(q.Tenants(ctx))); diff != "" {
		t.Error(diff)
	}
}

func TestARuleOfAffinityIsWrittenAndRemoved(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	changes := make(chan queue.Change[queue.Affinity], 16)
	watch(t, q.WatchAffinity, func(c queue.Change[queue.Affinity]) { changes <- c })
	expect := func(want queue.Phase) queue.Change[queue.Affinity] {
		t.Helper()
		c := <-changes
		if c.Phase != want {
			t.Errorf("%+v, want phase %d", c, want)
		}
		return c
	}
	expect(queue.Reset)
	expect(queue.Synced)
	rule := queue.Affinity{Prefer: []string{"gpu=4090"}, Exclude: []string{"b"}}
	must(0, q.SetAffinity(ctx, aHash, rule))
	if c := expect(queue.Put); c.Key != aHash || !cmp.Equal(c.Value, rule) {
		t.Errorf("the rule is %+v", c)
	}
	must(0, q.RemoveAffinity(ctx, aHash))
	if c := expect(queue.Gone); c.Key != aHash {
		t.Errorf("removed: %+v", c)
	}
}

func TestAConditionThatIsNotValidCountsAsNoneAndIsReported(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	var warned []error
	q := open(t, nc, queue.Config{Warn: func(err error) { warned = append(warned, err) }})
	none := queue.HostCondition{}
	if diff := cmp.Diff(none, must(q.Condition(ctx, "gpu"))); diff != "" {
		t.Error(diff)
	}
	drained := queue.HostCondition{Drained: true, DrainedBy: "ann", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	must(0, q.PutCondition(ctx, "gpu", &drained))
	if diff := cmp.Diff(drained, must(q.Condition(ctx, "gpu"))); diff != "" {
		t.Error(diff)
	}
	must(must(must(natsjs.New(nc)).KeyValue(ctx, names.ConditionsBucket)).PutString(ctx, "gpu", `{"drained":true,"hashes":["x"]}`))
	if diff := cmp.Diff(none, must(q.Condition(ctx, "gpu"))); diff != "" || len(warned) != 1 {
		t.Errorf("%d warnings: %s %s", len(warned), errors.Join(warned...), diff)
	}
}
