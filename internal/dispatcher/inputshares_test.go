package dispatcher_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const mib = 1 << 20

// A store of 1000 MiB: who may put one more MiB.
func TestATenantHasItsPartOfTheInputStore(t *testing.T) {
	t.Parallel()
	type held = map[job.Tenant]int64 // MiB
	for name, c := range map[string]struct {
		held   held
		others int64 // MiB of files that belong to no tenant
		own    int64 // MiB
		most   int64 // MiB; 0 is 1000
		want   int64 // MiB that are to come
		says   string
	}{
		"Nothing":             {},
		"UsualPart":           {held: held{"acme": 249}},
		"BeyondTheUsualPart":  {held: held{"acme": 250}, says: "413 acme has 263192576 bytes of input files and may have 262144000: files are removed 24h0m0s after"},
		"WhatOthersHave":      {held: held{"bolt": 250, "carl": 250}},
		"SetHigher":           {held: held{"acme": 250}, own: 500},
		"SetLower":            {held: held{"acme": 10}, own: 10, says: "413 dispatcher tenants set acme --max-file-bytes"},
		"AllOfTheFile":        {held: held{"acme": 100}, want: 151, says: "413"},
		"NoMaximum":           {held: held{"acme": 100_000}, most: -1},
		"NoMaximumButSet":     {held: held{"acme": 10}, own: 10, most: -1, says: "413"},
		"NearlyFullSmall":     {held: held{"acme": 150, "bolt": 240, "carl": 240, "dora": 200}},
		"NearlyFullEqual":     {held: held{"acme": 200, "bolt": 240, "carl": 240, "dora": 200}, says: "507 more than its equal part of 209715200"},
		"NearlyFullNewcomer":  {held: held{"bolt": 240, "carl": 240, "dora": 240, "ella": 100}},
		"NearlyFullMuch":      {held: held{"bolt": 240, "carl": 240, "dora": 240, "ella": 81}, want: 168, says: "507 more than its equal part of 174762666"},
		"NearlyFullAlone":     {held: held{"acme": 801}, own: 1000, says: "507"},
		"AloneAndRoom":        {held: held{"acme": 700}, own: 1000},
		"FullOfOthers":        {held: held{"acme": 1}, others: 980, says: "507 COMFY_INPUTS is full"},
		"NearlyFullOfOthers":  {held: held{"acme": 1}, others: 970},
		"FullForTheNewcomers": {held: held{"bolt": 245, "carl": 245, "dora": 245, "ella": 245}, says: "507 COMFY_INPUTS is full"},
	} {
		use := queue.InputsUse{Most: 1000 * mib, Bytes: c.others * mib, Age: 24 * time.Hour, Tenants: map[job.Tenant]int64{}}
		for tenant, n := range c.held {
			use.Tenants[tenant], use.Bytes = n*mib, use.Bytes+n*mib
		}
		if c.most < 0 {
			use.Most = 0
		}
		count := func(context.Context) (queue.InputsUse, error) { return use, nil }
		shares := dispatcher.NewInputShares(count, func(job.Tenant) int64 { return c.own * mib })
		_, err := shares.Admit(t.Context(), "acme", mib, c.want*mib)
		code, text, _ := strings.Cut(c.says, " ")
		fits := map[string]bool{"": err == nil, "413": isA[*jetstream.TooBig](err), "507": isA[*jetstream.Failed](err) && strings.Contains(fmt.Sprint(err), "507 ")}
		if !fits[code] || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A piece that is let in counts at once, and one that was then not stored counts only until the next count. A tenant that is refused
// does not cause a count for each piece.
func TestWhatWasLetInCountsUntilItIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored, counts, slow := int64(0), 0, time.Duration(0)
		count := func(context.Context) (queue.InputsUse, error) {
			counts++
			<-time.After(slow)
			return queue.InputsUse{Tenants: map[job.Tenant]int64{"acme": stored}}, nil
		}
		shares := dispatcher.NewInputShares(count, func(job.Tenant) int64 { return 10 })
		enter := func(want bool) (done func()) {
			t.Helper()
			done, err := shares.Admit(t.Context(), "acme", 4, 0)
			if (err == nil) != want {
				t.Errorf("let in: %v, want %v", err, want)
			}
			return done
		}
		first, second := enter(true), enter(true)
		for range 100 {
			enter(false)
		}
		if counts != 1 {
			t.Errorf("counted %d times", counts)
		}
		first() // and is not there: it has failed
		<-time.After(2 * time.Second)
		third := enter(true) // while the second is still on its way
		enter(false)
		second()
		third()
		stored = 8 // both are there
		<-time.After(2 * time.Second)
		enter(false)
		stored = 4 // one has become too old
		<-time.After(2 * time.Second)
		enter(true)()
		stored, slow = -100, time.Second // it takes a second, and is done a tenth of the time
		<-time.After(2 * time.Second)
		counts = 0
		for range 21 {
			enter(true)()
			<-time.After(time.Second)
		}
		if counts != 2 {
			t.Errorf("counted %d times in 22 seconds", counts)
		}
	})
}

// Two dispatchers let a tenant have no more than it may, also by uploads that it never ends. A refused upload leaves nothing, and
// other tenants can still put files.
func TestFilesOfATenantDoNotFillTheStore(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	q := openQueue(t, url)
	a := fileCaller{dispatcher.FileCallsWith(q, 1<<30, mib), "acme"}
	b := fileCaller{dispatcher.FileCallsWith(openQueue(t, url), 1<<30, mib), "acme"}
	body := noise(200_000)
	counts := func(want map[job.Tenant]int64) {
		t.Helper()
		use, err := q.InputsUse(t.Context())
		if err != nil || !maps.Equal(use.Tenants, want) {
			t.Errorf("stored are %v, want %v; %v", use.Tenants, want, err)
		}
	}
	const each = 198 << 10 // 200 000 bytes and 2 KiB, in whole KiB
	var cursor string
	for i, c := range []fileCaller{a, a, a} { // three that are never ended
		reply, err := c.put(piece(0, "Comfy-Upload", fmt.Sprint("abandoned-", i)), body)
		if err != nil {
			t.Fatal(err)
		}
		cursor = reply.Header.Get("Comfy-Cursor")
	}
	empty := piece(0, "Comfy-Upload", "empty-12", "Comfy-Last", "true", "Comfy-File-Digest", digestOf(nil), "Comfy-File", "acme/none")
	for _, c := range []fileCaller{a, b} {
		if _, err := c.put(empty, nil); err != nil {
			t.Errorf("a file without bytes: %v", err)
		}
	}
	counts(map[job.Tenant]int64{"acme": 3*each + 64<<10})
	reply, err := b.put(piece(0), body)
	if err != nil {
		t.Fatalf("the fourth: %v", err)
	}
	goOn := piece(200_000, "Comfy-Cursor", reply.Header.Get("Comfy-Cursor"))
	if _, err := b.put(goOn, body); !isA[*jetstream.TooBig](err) || !strings.Contains(err.Error(), "acme has 1079296 bytes") {
		t.Errorf("its second piece: %v", err)
	}
	counts(map[job.Tenant]int64{"acme": 3*each + 64<<10})
	if _, err := b.put(piece(0, "Comfy-Upload", "declared", "Comfy-File-Size", "900000"), body); !isA[*jetstream.TooBig](err) {
		t.Errorf("a file that says that it is too large: %v", err)
	}
	bolt := piece(0, "Comfy-File", "bolt/a", "Comfy-Last", "true", "Comfy-File-Digest", digestOf(body))
	if _, err := b.as("bolt").put(bolt, body); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	larger := piece(200_000, "Comfy-Upload", "abandoned-2", "Comfy-Cursor", cursor)
	if _, err := a.put(larger, noise(203_000)); !isA[*jetstream.BadRequest](err) || !strings.Contains(err.Error(), "no piece may be larger than the first") {
		t.Errorf("a piece that is larger than it counts for: %v", err)
	}
	counts(map[job.Tenant]int64{"acme": 3*each + 64<<10, "bolt": each})
	readByOthers(t, url, body)
}

// readByOthers reads what dispatchers have stored as programs with NATS' own library do.
func readByOthers(t *testing.T, url string, body []byte) {
	t.Helper()
	store, err := rawOn(t, url).ObjectStore(names.InputsStore)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"bolt/a": body, "acme/none": {}} {
		if got, err := store.GetBytes(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
}

func TestWhatIsSetForInputFilesIsTold(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		most, less := int64(3<<30), int64(-1)
		s.want("set", operator[queue.TenantsAnswer](s, "tenants", queue.TenantsRequest{Tenant: "acme", MaxFileBytes: &most}).Tenants["acme"].MaxFileBytes, most)
		s.want("told", operator[queue.TenantsAnswer](s, "tenants", queue.TenantsRequest{}).Tenants["acme"].MaxFileBytes, most)
		_, err := call[queue.TenantsAnswer](s.memory, "tenants", queue.TenantsRequest{Tenant: "acme", MaxFileBytes: &less})
		refused[*jetstream.BadRequest](s, err)
	})
}
