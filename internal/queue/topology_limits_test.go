package queue_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const gib = 1 << 30

// openWith opens a Queue with settings of the test.
func openWith(t *testing.T, url string, cfg queue.Config) *queue.Queue {
	t.Helper()
	return open(t, connect(t, url), cfg)
}

// maxima gives the maximum of every stream.
func maxima(t *testing.T, js natsjs.JetStream) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for info := range js.ListStreams(t.Context()).Info() {
		all[info.Config.Name] = info.Config.MaxBytes
	}
	return all
}

// Every stream has its part of the room, and what an operator has set by hand stays.
func TestEveryStreamHasAMaximum(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	js := must(natsjs.New(connect(t, url)))
	must(js.CreateStream(t.Context(), natsjs.StreamConfig{Name: names.DeadStream, Subjects: []string{"comfy.dead.*"}, MaxBytes: 7777777}))
	must(js.CreateObjectStore(t.Context(), natsjs.ObjectStoreConfig{Bucket: names.OutputsStore})) // as a former version made it
	must(js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: names.HostsBucket, TTL: 15 * time.Second, LimitMarkerTTL: time.Minute}))
	openWith(t, url, queue.Config{}) // an agent or another program: only a dispatcher has a Room
	if got := maxima(t, js)[names.JobsStream]; got != -1 {
		t.Errorf("without a room COMFY_JOBS has the maximum %d", got)
	}
	openWith(t, url, queue.Config{Room: 10 * gib, EventsBytes: 3 * gib})
	const percent = 10 * gib / 100
	want := map[string]int64{
		"COMFY_JOBS": 20 * percent, "COMFY_EVENTS": 3 * gib, "COMFY_DEAD": 7777777, "COMFY_LIVE": 64 << 20, "COMFY_DELIVERIES": 10 * gib / 500, "KV_COMFY_APIKEYS": 32 << 20,
		"OBJ_COMFY_OUTPUTS": 26 * percent, "OBJ_COMFY_CATALOG": percent, "OBJ_COMFY_INPUTS": 15 * percent, "KV_COMFY_WAITING": 2 * percent, "KV_COMFY_CAPABILITIES": percent,
	}
	for _, bucket := range []string{"BLOCKS", "STRIKES", "HOSTS", "DISPATCHERS", "CONDITIONS", "AFFINITY", "TENANTS", "SLOTS", "GRANTS", "SECRETS", "CATALOGS", "ASSETS", "REQUESTS", "USERDATA", "HIDDEN", "WEBHOOKS"} {
		want["KV_COMFY_"+bucket] = 10 * gib / 500
	}
	if diff := cmp.Diff(want, maxima(t, js)); diff != "" {
		t.Error(diff)
	}
	for name, discard := range map[string]natsjs.DiscardPolicy{
		"COMFY_JOBS": natsjs.DiscardNew, "COMFY_EVENTS": natsjs.DiscardOld, "COMFY_DEAD": natsjs.DiscardOld,
		"OBJ_COMFY_OUTPUTS": natsjs.DiscardOld, "OBJ_COMFY_INPUTS": natsjs.DiscardOld, "KV_COMFY_WAITING": natsjs.DiscardNew,
	} {
		if got := must(js.Stream(t.Context(), name)).CachedInfo().Config.Discard; got != discard {
			t.Errorf("%s discards %v", name, got)
		}
	}
	openWith(t, url, queue.Config{MaxDisk: 5 * gib, DeadBytes: gib})
	got := maxima(t, js)
	if got["COMFY_DEAD"] != gib || got["COMFY_EVENTS"] != 20*(5*gib/100) || got["OBJ_COMFY_OUTPUTS"] != 26*(5*gib/100) {
		t.Errorf("given by hand: %v", got)
	}
}

// What is in a stream has room, whatever maximum is asked for.
func TestAMaximumLeavesRoomForWhatIsThere(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	js := must(natsjs.New(connect(t, url)))
	must(js.CreateStream(t.Context(), natsjs.StreamConfig{Name: names.DeadStream, Subjects: []string{"comfy.dead.*"}}))
	for range 30 {
		must(js.Publish(t.Context(), "comfy.dead.acme", make([]byte, 1<<20)))
	}
	openWith(t, url, queue.Config{DeadBytes: 16 << 20})
	info := must(js.Stream(t.Context(), names.DeadStream)).CachedInfo()
	if info.State.Msgs != 30 || info.Config.MaxBytes < 30<<20 {
		t.Errorf("%d letters are left, at most %d bytes", info.State.Msgs, info.Config.MaxBytes)
	}
}

// A stream of a former version has more content than NATS has room for beside the maxima of the other streams: it stays as it is.
func TestAnUpgradeDropsNothingWhereThereIsLittleRoom(t *testing.T) {
	t.Parallel()
	s, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir(), MaxStore: 400 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	js := must(natsjs.New(connect(t, s.URL())))
	must(js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "OTHERS", Subjects: []string{"others"}, MaxBytes: 200 << 20}))
	must(js.CreateStream(t.Context(), natsjs.StreamConfig{Name: names.DeadStream, Subjects: []string{"comfy.dead.*"}}))
	for range 130 {
		must(js.Publish(t.Context(), "comfy.dead.acme", make([]byte, 1<<20)))
	}
	openWith(t, s.URL(), queue.Config{Room: queue.AskNATS})
	info := must(js.Stream(t.Context(), names.DeadStream)).CachedInfo()
	if info.State.Msgs != 130 {
		t.Errorf("%d letters are left, at most %d bytes", info.State.Msgs, info.Config.MaxBytes)
	}
	for name, bytes := range maxima(t, js) {
		if bytes <= 0 && name != names.DeadStream {
			t.Errorf("%s has no maximum", name)
		}
	}
}

// A NATS that has less room than is asked for still gives every stream a maximum, and no more than it can keep.
func TestMaximaAreWhatNATSCanKeep(t *testing.T) {
	t.Parallel()
	const most = 2 * gib
	s, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir(), MaxStore: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if s.MaxStore() != most {
		t.Errorf("the server may store %d", s.MaxStore())
	}
	js := must(natsjs.New(connect(t, s.URL())))
	openWith(t, s.URL(), queue.Config{Room: queue.AskNATS})
	must(js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "COMFY_ROOM", Subjects: []string{"comfy.room"}, MaxBytes: 1 << 20})) // of one that died
	openWith(t, s.URL(), queue.Config{Room: queue.AskNATS})
	sum := int64(0)
	for name, bytes := range maxima(t, js) {
		if bytes <= 0 || name == "COMFY_ROOM" {
			t.Errorf("%s is there, at most %d bytes", name, bytes)
		}
		if name != names.LiveStream {
			sum += bytes
		}
	}
	if sum > most || sum < most/4 {
		t.Errorf("all maxima together are %d of %d", sum, int64(most))
	}
}

// Each stream that others can fill is full, and what jobs need to end is still stored.
func TestAFullStreamKeepsNothingElseFromBeingStored(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	js := must(natsjs.New(connect(t, url)))
	q := openWith(t, url, queue.Config{Room: gib, JobsBytes: 20 << 20, DeadBytes: 20 << 20, OutputsBytes: 20 << 20, LaneCap: 100, MaxJob: 4 << 20})
	body := []byte(`{"workflow":{"1":{"class_type":"X","inputs":{"text":"` + strings.Repeat("x", 3<<20) + `"}}}}`)
	var err error
	for range 20 {
		if _, err = q.Submit(ctx, jetstream.Lane{Tenant: "bolt", Priority: 5}, jetstream.Spec{Workflow: body[12 : len(body)-1]}); err != nil {
			break
		}
	}
	if !errors.Is(err, jetstream.ErrNoSpace) || !strings.Contains(err.Error(), "--jobs-bytes") {
		t.Errorf("a publish into a full stream of jobs: %v", err)
	}
	for i := range 20 {
		m := job.Message{Tenant: "bolt", Priority: 5, Sequence: uint64(i), Body: body}
		e := job.Event{EventKind: job.Dead, Job: "one", Tenant: "bolt", Reason: string(failure.NotRetryable)}
		must(q.Bury(ctx, &m, &e, uint64(i)))
		must(q.StoreOutput(ctx, "bolt/one/9/"+strings.Repeat("a", i+1)+".png", "image/png", bytes.NewReader(body)))
	}
	for _, name := range []string{"COMFY_JOBS", "COMFY_DEAD", "OBJ_COMFY_OUTPUTS"} {
		info := must(js.Stream(ctx, name)).CachedInfo()
		if info.State.Bytes > 20<<20 || info.State.Bytes < 15<<20 {
			t.Errorf("%s holds %d bytes", name, info.State.Bytes)
		}
	}
	e := job.Event{EventKind: job.Completed, Job: "one", Tenant: "acme"}
	must(q.Append(ctx, &e, 0, "test", ""))
	must(q.PutTicket(ctx, &queue.Ticket{Priority: 5, Tenant: "acme", Hash: aHash, Sequence: 1, Job: "two"}))
	if err := q.Beat(ctx, &queue.HostState{Host: "gpu-1", State: queue.Online, Slots: 1}); err != nil {
		t.Error(err)
	}
}

// There is no window for duplicates: a job with the Nats-Msg-Id of an earlier job is stored as well, and nothing is copied.
func TestAMessageIDSuppressesNobody(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	stored := uint64(0)
	for _, former := range []bool{true, false} { // a stream of a former version, and the same after a restart
		s, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc := connect(t, s.URL())
		js := must(natsjs.New(nc))
		if former {
			must(js.CreateStream(ctx, natsjs.StreamConfig{
				Name: names.JobsStream, Subjects: []string{"comfy.jobs.*.5"}, Retention: natsjs.WorkQueuePolicy, Duplicates: 100 * time.Millisecond, AllowDirect: true,
			}))
			openWith(t, s.URL(), queue.Config{}).Close()
		}
		for _, tenant := range []string{"bolt", "acme", "bolt", "acme"} {
			stored++
			ack := must(js.Publish(ctx, "comfy.jobs."+tenant+".5", []byte("{}"), natsjs.WithMsgID("order-1")))
			if ack.Duplicate || ack.Sequence != stored {
				t.Errorf("%s's message is %+v, want number %d", tenant, ack, stored)
			}
		}
		info := must(js.Stream(ctx, names.JobsStream)).CachedInfo()
		if info.Config.Duplicates != 0 || info.State.Msgs != stored {
			t.Errorf("window %v, %d messages for %d", info.Config.Duplicates, info.State.Msgs, stored)
		}
		nc.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// With a roll-up on its own key an agent could empty a bucket, so the buckets that agents write allow no roll-up.
func TestWhatAgentsWriteTakesNoRollUp(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc := connect(t, url)
	js := must(natsjs.New(nc))
	must(js.CreateKeyValue(ctx, natsjs.KeyValueConfig{Bucket: names.HostsBucket, TTL: 15 * time.Second, LimitMarkerTTL: time.Minute})) // of a former version
	q := openOn(t, url)
	for _, subject := range []string{"$KV.COMFY_HOSTS.gpu-2", "$KV.COMFY_CAPABILITIES.gpu-2", "$KV.COMFY_CONDITIONS.gpu-2", "$O.COMFY_OUTPUTS.C.x", "$O.COMFY_OUTPUTS.M.x"} {
		for _, rollup := range []string{"all", "sub"} {
			_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: nats.Header{"Nats-Rollup": {rollup}}, Data: []byte("x")})
			if api, refused := errors.AsType[*natsjs.APIError](err); !refused || !strings.Contains(api.Description, "rollup") {
				t.Errorf("roll-up %s of %s: %v", rollup, subject, err)
			}
		}
	}
	state := queue.HostState{Host: "gpu-1", State: queue.Online, Slots: 1}
	if err := errors.Join(q.Beat(ctx, &state), q.Leave(ctx, "gpu-1")); err != nil {
		t.Error(err)
	}
	if _, there, err := q.Host(ctx, "gpu-1"); there || err != nil {
		t.Errorf("a host that has left is there: %v, %v", there, err)
	}
}

// The letter of a job that was refused has only the beginning of its body, and the job cannot be requeued. A job that is too large
// for a requeue is refused when it is published.
func TestARefusedBodyIsBuriedAsItsBeginning(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc, q := connect(t, url), openOn(t, url)
	body := bytes.Repeat([]byte("x"), 1<<20)
	m := job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Body: body}
	e := job.Event{EventKind: job.Dead, Job: "j-1-7", Tenant: "acme", Reason: string(failure.InvalidJob)}
	must(q.Bury(ctx, &m, &e, 3))
	l := letterOf(t, q)
	if !bytes.Equal(l.Body, body[:4096]) || l.Header.Get("Comfy-Truncated") != "1048576" || !l.Truncated() {
		t.Errorf("the letter has %d bytes of %s", len(l.Body), l.Header.Get("Comfy-Truncated"))
	}
	if _, err := q.Requeue(ctx, &l, nil, nil); !errors.Is(err, queue.ErrTruncated) || !strings.Contains(err.Error(), "publish the job again") {
		t.Errorf("requeued: %v", err)
	}
	large := jetstream.Spec{Workflow: []byte(`{"1":{"class_type":"` + strings.Repeat("x", 1<<20+5000) + `","inputs":{}}}`)}
	_, err := q.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: 5}, large)
	if !errors.Is(err, jetstream.ErrTooLarge) || !strings.Contains(err.Error(), "--max-job") || !strings.Contains(err.Error(), "COMFY_INPUTS") {
		t.Errorf("submitted: %v", err)
	}
	answer := must(nc.RequestWithContext(ctx, "comfy.jobs.acme.5", make([]byte, 1<<20+5000)))
	if !strings.Contains(string(answer.Data), "message size exceeds maximum allowed") {
		t.Errorf("NATS says %s", answer.Data)
	}
	raised := openWith(t, url, queue.Config{MaxJob: 3 << 20})
	if raised.MaxBody() != 3<<20 {
		t.Errorf("a job may have %d bytes", raised.MaxBody())
	}
	must(raised.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: 5}, large))
}
