package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	aHash  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	aLease = "$JS.ACK.COMFY_JOBS.dispatch_5.1.7.3.1790000000000000000.0"
)

func put(key, value string) queue.Entry {
	return queue.Entry{Phase: queue.Put, Key: key, Value: []byte(value)}
}

// presence is a valid presence, but for the fields that are put into it.
func presence(more string) string {
	return `{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":0,` + more + `"time":"2026-01-01T00:00:00Z"}`
}

func TestAPresenceThatCannotBeIsNone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		want bool
	}{
		"Usual":           {presence(""), true},
		"Brief":           {presence(`"brief":true,`), false},
		"NegativeForeign": {presence(`"foreign":-1,`), false},
		"HugeForeign":     {presence(`"foreign":9000000000000000000,`), false},
		"NegativeSlots":   {strings.Replace(presence(""), `"slots":1`, `"slots":-1`, 1), false},
		"TooManySlots":    {strings.Replace(presence(""), `"slots":1`, `"slots":65537`, 1), false},
		"UnknownState":    {strings.Replace(presence(""), `online`, `merry`, 1), false},
		"AnotherHost":     {strings.Replace(presence(""), `"x"`, `"y"`, 1), false},
		"Priority":        {presence(`"running":[{"tenant":"a","job":"b","priority":10,"hash":"","attempt":1,"since":"2026-01-01T00:00:00Z"}],`), false},
		"NoTenant":        {presence(`"running":[{"tenant":"","job":"b","priority":5,"hash":"","attempt":1,"since":"2026-01-01T00:00:00Z"}],`), false},
		"Running":         {presence(`"running":[{"tenant":"a","job":"b","priority":5,"hash":"` + aHash + `","attempt":1,"since":"2026-01-01T00:00:00Z"}],`), true},
		"Size":            {presence(`"ended":{"tenant":"a","job":"b","priority":5,"hash":"","size":-1,"ran_for":"1s","success":true},`), false},
		"HugeMemory":      {presence(`"memory":1125899906842625,`), false}, // 1 PiB and a byte
		"FarTime":         {strings.Replace(presence(""), `2026`, `9026`, 1), false},
	} {
		if _, err := queue.HostStateOf(put("x", tc.body)); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckingWhatEveryJobSendsAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := queue.HostState{
		Host: "x", State: queue.Online, Slots: 1, Memory: 1 << 30, Time: at,
		Running: []queue.RunningJob{{Tenant: "acme", Job: "j1", Priority: 5, Hash: aHash, Attempt: 1, Since: at}},
		Ended:   &queue.EndedJob{Tenant: "acme", Job: "j0", Priority: 5, Hash: aHash, Size: 1 << 20, RanFor: job.Duration(time.Second)},
	}
	s.Recent = append(s.Recent, aHash)
	o := queue.Offer{
		Message: job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Received: at}, Job: "j1", Hash: aHash, Attempt: 1, AckWait: 30 * time.Second,
	}
	allocations := testing.AllocsPerRun(100, func() {
		if err := errors.Join(queue.CheckState(&s), queue.CheckOffer(&o)); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestALeaseHasItsForm(t *testing.T) {
	t.Parallel()
	for lease, want := range map[queue.Lease]bool{
		aLease: true,
		"$JS.ACK.hub.ACCHASH.COMFY_JOBS.dispatch_9.1.7.3.1.0.x": true,
		"$JS.ACK._.ACCHASH.COMFY_JOBS.dispatch_0.1.7.3.1.0":     true,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.0.3.1.0":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.7.3.1":                 false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.7.3.1.x":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.7.3.1.a":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.a.3.1.0":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.-7.3.1.0":              false,
		"$JS.ACK.COMFY_JOBS.dispatch_10.1.7.3.1.0":              false,
		"$JS.ACK.COMFY_JOBS.dispatch_evil.1.7.3.1.0":            false,
		"$JS.ACK.COMFY_EVENTS.COMFY_JOBS.dispatch_5.1.7.3.1.0":  false,
		"$JS.ACK.a.COMFY_JOBS.dispatch_5.1.7.3.1.0":             false,
		"$JS.ACK.*.>.COMFY_JOBS.dispatch_5.1.7.3.1.0":           false,
		"$JS.ACK.hub.ACC.COMFY_JOBS.dispatch_9.1.7.3.1.0.x.y":   false,
		"$JS.ACK.hub..COMFY_JOBS.dispatch_9.1.7.3.1.0":          false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.7.3.1.0\r\nPUB x 1":    false,
		"$JS.ACK.COMFY_DEAD.dispatch_5.1.7.3.1.0":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_/.1.7.3.1.0":               false,
		"$JS.ACK.COMFY_JOBS.dispatch_:.1.7.3.1.0":               false,
		"$JS.ACK.COMFY_JOBS.5.1.7.3.1.0":                        false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.x.7.3.1.0":               false,
		"COMFY_JOBS.dispatch_5.1.7.3.1.0":                       false,
		"$JS.ACK.*.ACC.COMFY_JOBS.dispatch_5.1.7.3.1.0":         false,
		"$JS.ACK.hub.>.COMFY_JOBS.dispatch_5.1.7.3.1.0":         false,
		"$JS.ACK.hub.a b.COMFY_JOBS.dispatch_5.1.7.3.1.0":       false,
		"$JS.ACK.hub.\x7f.COMFY_JOBS.dispatch_5.1.7.3.1.0":      false,
		"$JS.ACK.hub.é.COMFY_JOBS.dispatch_5.1.7.3.1.0":         false,
		"$JS.ACK.hub.!~.COMFY_JOBS.dispatch_5.1.7.3.1.0":        true,
		longLease(512):                           true,
		longLease(513):                           false,
		"":                                       false,
		"$KV.COMFY_BLOCKS.gpu-1":                 false,
		"$JS.ACK.COMFY_EVENTS.settle.1":          false,
		"$JS.ACK.COMFY_JOBS":                     false,
		"$JS.ACK.COMFY_JOBS.dispatch_5.1.7 +ACK": false,
		"comfy.api.requeue":                      false,
	} {
		if lease.Valid() != want || lease.Of(7) != want || lease.Of(8) {
			t.Errorf("%q: %v, of its own message %v, of another %v", lease, lease.Valid(), lease.Of(7), lease.Of(8))
		}
	}
}

// longLease has so many bytes behind "$JS.ACK.".
func longLease(n int) queue.Lease {
	const end = ".ACC.COMFY_JOBS.dispatch_5.1.7.3.1.0"
	return queue.Lease("$JS.ACK." + strings.Repeat("h", n-len(end)) + end)
}

func TestALeaseMayBeOfTheFirstMessage(t *testing.T) {
	t.Parallel()
	if lease := queue.Lease("$JS.ACK.COMFY_JOBS.dispatch_5.1.1.3.1.0"); !lease.Of(1) {
		t.Errorf("%s is not that of message 1", lease)
	}
}

// Each case is the text of fields that are added to a valid value, which makes it invalid.
func TestWhatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	ticket := func(more string) bool {
		_, err := queue.TicketOf(put("5.acme."+aHash+".7", `{"job":"a","lease":"`+aLease+`","attempt":1,"received":"2026-01-01T00:00:00Z"`+more+`}`))
		return err == nil
	}
	block := func(more string) bool {
		_, err := queue.BlockOf(put("gpu."+aHash, `{"kind":"timeout","tenants":["*"],"until":"2026-01-01T00:00:00Z"`+more+`}`))
		return err == nil
	}
	tenant := func(more string) bool {
		_, err := queue.TenantOf(put("acme", `{"weight":2`+more+`}`))
		return err == nil
	}
	dispatcher := func(more string) bool {
		_, err := queue.DispatcherStateOf(put("d", `{"dispatcher":"d"`+more+`}`))
		return err == nil
	}
	condition := func(more string) bool {
		_, err := queue.DecodeCondition([]byte(`{"drained":true` + more + `}`))
		return err == nil
	}
	control := func(more string) bool {
		_, err := queue.DecodeControl([]byte(`{"drain":true` + more + `}`))
		return err == nil
	}
	rule := func(more string) bool {
		_, err := queue.AffinityOf(put(aHash, `{"prefer":["a"]`+more+`}`))
		return err == nil
	}
	grant := func(more string) bool {
		_, err := queue.GrantOf(put("gpu", `{"slots":2`+more+`}`))
		return err == nil
	}
	reply := func(more string) bool { // of an agent that is busy, which says why
		_, err := queue.DecodeReply([]byte(`{"answer":"busy","state":{"host":"gpu","state":"online"}` + more + `}`))
		return err == nil
	}
	strikes := func(more string) bool {
		_, err := queue.StrikesOf(put("gpu."+aHash, `{"level":1`+more+`}`))
		return err == nil
	}
	for name, tc := range map[string]struct {
		right func(string) bool
		wrong []string
	}{
		"Grant":      {grant, []string{`,"slots":-1`, `,"slots":65537`, `,"tenants":["a b"]`, `,"time":"9999-01-01T00:00:00Z"`}},
		"Reply":      {reply, []string{`,"answer":"perhaps"`, `,"state":{"host":"gpu","state":"online","slots":-1}`, `,"state":{"host":""}`}},
		"Strikes":    {strikes, []string{`,"level":"high"`}},
		"Ticket":     {ticket, []string{`,"attempt":-1`, `,"size":-1`, `,"lease":"$KV.COMFY_BLOCKS.x"`, `,"lease":"$JS.ACK.COMFY_JOBS.dispatch_5.1.8.3.1.0"`, `,"job":""`, `,"received":"9999-01-01T00:00:00Z"`}},
		"Block":      {block, []string{`,"kind":"bad mood"`, `,"tenants":[]`, `,"size":-1`, `,"failures":-1`, `,"level":-1`, `,"host":"other"`, `,"hash":"` + strings.Repeat("0", 64) + `"`, `,"until":"0001-01-01T00:00:00Z"`}},
		"Tenant":     {tenant, []string{`,"weight":0`, `,"weight":-1`, `,"weight":1e300`, `,"max_running":-1`, `,"max_unfinished":-1`, `,"max_bytes":-1`, `,"max_file_bytes":-1`, `,"max_priority":-1`, `,"max_priority":10`}},
		"Dispatcher": {dispatcher, []string{`,"waiting":-1`, `,"dispatcher":"e"`}},
		"Condition":  {condition, []string{`,"hashes":["x"]`, `,"blame":{"tenant":"","job":"","hash":""}`}},
		"Control":    {control, []string{`,"resume":true`}},
		"Affinity":   {rule, []string{`,"exclude":7`}},
	} {
		if !tc.right("") {
			t.Errorf("%s: the right one is refused", name)
		}
		for _, more := range tc.wrong {
			if tc.right(more) {
				t.Errorf("%s with %s is taken", name, more)
			}
		}
	}
}

func TestAKeyThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	grant := func(key string) error { _, err := queue.GrantOf(put(key, `{}`)); return err }
	strikes := func(key string) error { _, err := queue.StrikesOf(put(key, `{}`)); return err }
	tenant := func(key string) error { _, err := queue.TenantOf(put(key, `{}`)); return err }
	ticket := func(key string) error {
		_, err := queue.TicketOf(put(key, `{"job":"a","lease":"`+aLease+`","attempt":1}`))
		return err
	}
	for name, tc := range map[string]struct {
		read  func(key string) error
		right string
		wrong []string
	}{
		"Grant":   {grant, "gpu", []string{"", "a b"}},
		"Strikes": {strikes, "gpu." + aHash, []string{"gpu", "gpu.12", "." + aHash, "a b." + aHash}},
		"Tenant":  {tenant, "acme", []string{"", "a b"}},
		"Ticket":  {ticket, "5.acme." + aHash + ".7", []string{"", "5.acme.7", "5.acme..7", "5.acme.12.7", "10.acme." + aHash + ".7", "5.acme." + aHash + ".x", "x.acme." + aHash + ".7", "5.." + aHash + ".7"}},
	} {
		if err := tc.read(tc.right); err != nil {
			t.Errorf("%s %q is refused: %v", name, tc.right, err)
		}
		for _, key := range tc.wrong {
			if tc.read(key) == nil {
				t.Errorf("%s %q is taken", name, key)
			}
		}
	}
}

// An event with an impossible value is a link with its kind, tenant and job alone. One that names another job is a link without an event, and
// one without a valid job id is no event.
func TestAnEventThatCannotBeIsALinkWithoutContent(t *testing.T) {
	t.Parallel()
	header := nats.Header{"Comfy-Lease": {"$KV.COMFY_BLOCKS.gpu-1"}}
	link, err := queue.DecodeLink("comfy.events.jobs.acme.one.failed", header, []byte(`{"job":"one","tenant":"acme","priority":5,"attempt":-3,"host":"gpu-1"}`), 9)
	if err != nil {
		t.Fatal(err)
	}
	want := queue.Link{Event: jetstream.Event{EventKind: job.Failed, Tenant: "acme", Job: "one"}, ChainSequence: 9}
	if diff := cmp.Diff(want, link); diff != "" {
		t.Error(diff)
	}
	none := queue.Link{Event: jetstream.Event{Tenant: "acme", Job: "one"}, ChainSequence: 9}
	for _, body := range []string{
		`{"stream":"COMFY_JOBS","seq":17}`, `{"job":"other","tenant":"acme"}`, `{"job":"one","tenant":"bolt"}`, `{"job":"one"}`, `{}`, `null`, `[]`, `7`, ``, "\xff",
		`{"job":"other","tenant":"acme","attempt":-3}`,
	} {
		link, err := queue.DecodeLink("comfy.events.jobs.acme.one.cancelled", nats.Header{"Comfy-Lease": {aLease}}, []byte(body), 9)
		if diff := cmp.Diff(none, link); diff != "" || err != nil {
			t.Errorf("%s: %v %s", body, err, diff)
		}
	}
	if _, err := queue.DecodeLink("comfy.events.jobs.acme.ü.failed", nil, nil, 9); err == nil {
		t.Error("an event of what is no job id is a link")
	}
}

func offer(change func(h nats.Header)) *nats.Msg {
	h := nats.Header{
		"Comfy-Job-Id": {"a"}, "Comfy-Tenant": {"acme"}, "Comfy-Priority": {"5"}, "Comfy-Hash": {aHash}, "Comfy-Attempt": {"1"},
		"Comfy-Lease": {aLease}, "Comfy-Ack-Wait": {"30s"}, "Comfy-Sequence": {"7"}, "Comfy-Received": {"2026-01-01T00:00:00Z"},
	}
	change(h)
	return &nats.Msg{Header: h}
}

func TestAnOfferThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := queue.DecodeOffer(offer(func(nats.Header) {})); err != nil {
		t.Errorf("the right one: %v", err)
	}
	for name, value := range map[string]string{
		"Comfy-Job-Id": "a.b", "Comfy-Tenant": "", "Comfy-Priority": "10", "Comfy-Hash": "x", "Comfy-Attempt": "-1",
		"Comfy-Lease": "comfy.api.requeue", "Comfy-Ack-Wait": "-1s", "Comfy-Received": "later",
	} {
		if o, err := queue.DecodeOffer(offer(func(h nats.Header) { h.Set(name, value) })); err == nil {
			t.Errorf("with %s %q it is %+v", name, value, o)
		}
	}
}

// A key with an impossible value is warned of once and left out. It counts again when it has a valid value.
func TestWhatCannotBeIsToldOnceAndLeftOut(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	warned := make(chan string, 16)
	q := open(t, nc, queue.Config{Warn: func(err error) { warned <- err.Error() }})
	changes := make(chan queue.Change[queue.HostState], 16)
	watch(t, q.WatchHosts, func(c queue.Change[queue.HostState]) { changes <- c })
	for _, want := range []queue.Phase{queue.Reset, queue.Synced} {
		if c := <-changes; c.Phase != want {
			t.Fatalf("the watch begins with %+v", c)
		}
	}
	hosts := must(must(natsjs.New(nc)).KeyValue(ctx, names.HostsBucket))
	for _, step := range []struct {
		body string
		want queue.Phase
	}{
		{presence(`"foreign":-1,`), queue.Invalid},
		{presence(`"brief":true,`), queue.Invalid},
		{presence(""), queue.Put},
	} {
		must(hosts.Put(ctx, "x", []byte(step.body)))
		if c := <-changes; c.Phase != step.want || c.Key != "x" {
			t.Errorf("%s is told as %+v", step.body, c)
		}
	}
	if text := <-warned; !strings.Contains(text, "foreign is -1") || !strings.Contains(text, `"x" in bucket COMFY_HOSTS`) {
		t.Errorf("warned: %s", text)
	}
	if len(warned) != 0 {
		t.Errorf("warned again: %s", <-warned)
	}
}

func FuzzWhatIsDecodedCanBe(f *testing.F) {
	for _, body := range append(odd, presence(""), presence(`"foreign":-1,`), `{"weight":1e308}`, `{"answer":"busy","state":{"host":"a","state":"online"}}`,
		`{"kind":"timeout","tenants":["*"],"until":"2026-01-01T00:00:00Z"}`, `{"job":"a","lease":"`+aLease+`"}`, `{"attempt":-1,"progress":7}`) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if s, err := queue.HostStateOf(put("x", body)); err == nil && (s.Brief || s.Slots < 0 || s.Foreign < 0 || s.Prefetch < 0 || s.Host != "x") {
			t.Errorf("a presence: %+v", s)
		}
		if r, err := queue.DecodeReply([]byte(body)); err == nil && (r.State.Slots < 0 || r.State.Foreign < 0) {
			t.Errorf("a reply: %+v", r)
		}
		if k, err := queue.TicketOf(put("5.acme."+aHash+".7", body)); err == nil && (k.Attempt < 0 || k.Size < 0 || !k.Lease.Valid() || !k.Job.Valid()) {
			t.Errorf("a ticket: %+v", k)
		}
		if b, err := queue.BlockOf(put("gpu."+aHash, body)); err == nil && (b.Size < 0 || len(b.Tenants) == 0 || !b.Kind.Valid() || b.Until.IsZero()) {
			t.Errorf("a block: %+v", b)
		}
		if s, err := queue.TenantOf(put("acme", body)); err == nil && (s.Weight <= 0 || s.Weight > 1<<20 || s.MaxRunning < 0) {
			t.Errorf("settings: %+v", s)
		}
		if s, err := queue.DispatcherStateOf(put("d", body)); err == nil && s.Waiting < 0 {
			t.Errorf("a dispatcher: %+v", s)
		}
		if g, err := queue.GrantOf(put("a", body)); err == nil && (g.Slots < 0 || slices.ContainsFunc(g.Tenants, func(t job.Tenant) bool { return !t.Valid() })) {
			t.Errorf("a grant: %+v", g)
		}
		_, _ = queue.AffinityOf(put(aHash, body))
		_, _ = queue.DecodeCondition([]byte(body))
		_, _ = queue.DecodeControl([]byte(body))
		link, err := queue.DecodeLink("comfy.events.jobs.acme.one.failed", nil, []byte(body), 1)
		if err != nil || link.Attempt < 0 || link.Size < 0 || link.Progress < 0 || link.Progress > 1 || link.Tenant != "acme" {
			t.Errorf("a link: %+v, %v", link, err)
		}
	})
}

func FuzzAnOfferThatIsReadCanBe(f *testing.F) {
	f.Add("a", "acme", "5", aHash, "1", aLease, "30s", "2026-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, id, tenant, priority, hash, attempt, lease, wait, received string) {
		h := nats.Header{
			"Comfy-Job-Id": {id}, "Comfy-Tenant": {tenant}, "Comfy-Priority": {priority}, "Comfy-Hash": {hash}, "Comfy-Attempt": {attempt},
			"Comfy-Lease": {lease}, "Comfy-Ack-Wait": {wait}, "Comfy-Received": {received},
		}
		o, err := queue.DecodeOffer(&nats.Msg{Header: h})
		if err == nil && (!o.Job.Valid() || !o.Message.Priority.Valid() || o.Attempt < 0 || !o.Lease.Valid() || o.AckWait <= 0) {
			t.Errorf("an offer: %+v", o)
		}
	})
}

// watch watches until the test ends, and waits for the watch's end.
func watch[V any](t *testing.T, on func(context.Context, func(queue.Change[V])) error, tell func(queue.Change[V])) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = on(ctx, tell) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}
