package names_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

func TestSubjectsAreBuiltAndTakenApart(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"comfy.jobs.acme.9":                   names.LaneSubject(job.Lane{Tenant: "acme", Priority: 9}),
		"comfy.jobs.acme.*":                   names.LanesSubject("acme"),
		"comfy.jobs.*.0":                      names.PrioritySubject(0),
		"dispatch_5":                          names.DispatchConsumer(5),
		"comfy.events.jobs.acme.cat-1.queued": names.EventSubject("acme", "cat-1", job.Queued),
		"comfy.events.jobs.acme.cat-1.*":      names.ChainSubject("acme", "cat-1"),
		"comfy.append.jobs.acme.cat-1.queued": names.AppendSubject("comfy.events.jobs.acme.cat-1.queued"),
		"comfy.append.jobs.acme.cat-1.failed": names.JobAppendSubject("acme", "cat-1", job.Failed),
		// A tenant named comfy has a job named events.
		"comfy.append.jobs.comfy.events.queued": names.AppendSubject("comfy.events.jobs.comfy.events.queued"),
		"comfy.dead.acme":                       names.DeadSubject("acme"),
		"comfy.hosts.gpu-1.offer":               names.OfferSubject("gpu-1"),
		"comfy.hosts.gpu-1.control":             names.ControlSubject("gpu-1"),
		"comfy.hosts.gpu-1.state":               names.StateSubject("gpu-1"),
		"comfy.live.jobs.acme.cat-1.progress":   names.LiveSubject("acme", "cat-1", "progress"),
		"comfy.tell.jobs.acme.cat-1.progress":   names.TellSubject("acme", "cat-1", "progress"),
		"KV_COMFY_HOSTS":                        names.BucketStream(names.HostsBucket),
		"COMFY_HOSTS":                           names.BucketOf("KV_COMFY_HOSTS"),
		"$KV.COMFY_HOSTS.gpu-1":                 names.KeySubject(names.HostsBucket, "gpu-1"),
		"OBJ_COMFY_INPUTS":                      names.StoreStream(names.InputsStore),
		"$O.COMFY_INPUTS.M.YS9iLnBuZw==":        names.MetaSubject(names.InputsStore, "a/b.png"),
		"$O.COMFY_INPUTS.C.x.3.y":               names.PartsSubject(names.InputsStore, "x.3.y"),
		"gpu-1":                                 names.StateHost("comfy.hosts.gpu-1.state"),
		"acme":                                  string(names.TenantOfLetter("comfy.dead.acme")),
		"comfy.events.jobs.acme.>":              names.TenantEvents("acme"),
		"comfy.hosts.gpu-1.http":                names.HTTPSubject("gpu-1"),
		"comfy.dispatchers.desk.hosts":          names.RelaySubject("desk"),
		"desk":                                  names.RelaySender("comfy.dispatchers.desk.hosts"),
		"comfy.live.jobs.acme.*.frame":          names.FramesSubject("acme"),
		"COMFY_OUTPUTS":                         names.PlainName("OBJ_COMFY_OUTPUTS"),
		"COMFY_BLOCKS":                          names.PlainName("KV_COMFY_BLOCKS"),
		"COMFY_JOBS":                            names.PlainName("COMFY_JOBS"),
		"acme.orders":                           names.WebhookKey("acme", "orders"),
		"=.orders":                              names.WebhookKey(names.Fleet, "orders"),
		"comfy.webhooks.acme.orders":            names.DeliverySubject("acme", "orders"),
		"comfy.webhooks.=.orders":               names.DeliverySubject(names.Fleet, "orders"),
		"comfy.events.webhooks.acme.orders.cat-1.7.delivered": names.TrySubject("acme", "orders", "cat-1", "7", "delivered"),
		"comfy.events.webhooks.=.*.*.*.*":                     names.TrySubject(names.Fleet, "", "", "", ""),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheJobIsReadOutOfALiveSubject(t *testing.T) {
	t.Parallel()
	if tenant, id := names.JobOfLive("comfy.live.jobs.acme.cat-1.progress"); tenant != "acme" || id != "cat-1" {
		t.Errorf("%s %s, want acme cat-1", tenant, id)
	}
	if tenant, id := names.JobOfLive("comfy.live.jobs.acme"); tenant != "" || id != "" {
		t.Errorf("%q %q of a subject without a job, want nothing", tenant, id)
	}
}

func TestALaneIsReadOutOfItsSubject(t *testing.T) {
	t.Parallel()
	if tenant, p, ok := names.SplitLane("comfy.jobs.acme.7"); tenant != "acme" || p != 7 || !ok {
		t.Errorf("%s %d %v", tenant, p, ok)
	}
	if tenant, p, ok := names.SplitLane("comfy.jobs.a.0"); tenant != "a" || p != 0 || !ok {
		t.Errorf("%s %d %v", tenant, p, ok)
	}
	for _, subject := range []string{"comfy.jobs.acme", "comfy.jobs..5", "comfy.jobs.acme.x", "comfy.jobs.acme.10", "comfy.jobs.5", "comfy.dead.acme.5", ""} {
		if tenant, p, ok := names.SplitLane(subject); ok {
			t.Errorf("%s is the lane of %s, priority %d", subject, tenant, p)
		}
	}
}

func TestAJobIsReadOutOfTheSubjectOfItsEvent(t *testing.T) {
	t.Parallel()
	tenant, id, kind, ok := names.JobOfEvent("comfy.events.jobs.acme.cat-1.completed")
	if tenant != "acme" || id != "cat-1" || kind != job.Completed || !ok {
		t.Errorf("%s %s %s %v", tenant, id, kind, ok)
	}
	for _, subject := range []string{
		"comfy.events.hosts.gpu-1.online", "comfy.events.jobs.acme.cat-1", "comfy.events.jobs.acme.cat-1.a.b", "comfy.append.jobs.acme.cat-1.queued",
		"other.events.jobs.acme.cat-1.queued", "comfy.events.blocks.acme.cat-1.queued", "comfy.events.jobs.a b.cat-1.queued", "comfy.events.jobs.acme.c$t.queued",
	} {
		if tenant, id, _, ok := names.JobOfEvent(subject); ok {
			t.Errorf("%s is an event of %s %s", subject, tenant, id)
		}
	}
	for subject, want := range map[string]bool{"comfy.events.jobs.a b.c$t.queued": true, "comfy.events.blocks.acme.cat-1.queued": false, "": false} {
		if _, _, _, ok := names.SplitEventSubject(subject); ok != want {
			t.Errorf("%s is split: %t, want %t", subject, ok, want)
		}
	}
}

func TestAPairIsReadOutOfItsKey(t *testing.T) {
	t.Parallel()
	if host, hash, ok := names.SplitPair(names.PairKey("gpu-1", "abc")); host != "gpu-1" || hash != "abc" || !ok {
		t.Errorf("%s %s %v", host, hash, ok)
	}
	for _, key := range []string{"gpu-1", ".abc", "gpu-1.", ""} {
		if _, _, ok := names.SplitPair(key); ok {
			t.Errorf("%q is a pair", key)
		}
	}
}

// A publisher can send headers with the names that NATS uses; NATS writes its own behind them.
func TestOfAHeaderThatStandsTwiceTheOneOfNATSCounts(t *testing.T) {
	t.Parallel()
	h := map[string][]string{names.StoredHeader: {"7777", "12"}}
	if got, none := names.AddedUint(h, names.StoredHeader), names.AddedUint(h, names.LastHeader); got != 12 || none != 0 {
		t.Errorf("%d and %d, want 12 and 0", got, none)
	}
}

func TestCodesThatSayThatThereIsNoRoom(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint16]bool{10077: true, 10023: true, 10028: true, 10047: true, 10071: false, 10054: false, 0: false} {
		if names.NoRoom(code) != want {
			t.Errorf("%d: %v, want %v", code, !want, want)
		}
	}
}

func TestAWebhookIsReadOutOfItsKeyAndItsSubjects(t *testing.T) {
	t.Parallel()
	type webhook struct {
		Owner job.Tenant
		Name  string
		OK    bool
	}
	told := func(owner job.Tenant, name string, ok bool) webhook { return webhook{owner, name, ok} }
	for _, owner := range []job.Tenant{"acme", names.Fleet} {
		want := webhook{owner, "orders", true}
		for what, got := range map[string]webhook{
			"key":      told(names.SplitWebhook(names.WebhookKey(owner, "orders"))),
			"delivery": told(names.WebhookOfDelivery(names.DeliverySubject(owner, "orders"))),
			"try":      told(names.WebhookOfTry(names.TrySubject(owner, "orders", names.NoJob, names.TestEvent, "failed"))),
		} {
			if got != want {
				t.Errorf("%s of %s: %+v", what, owner, got)
			}
		}
	}
	for _, key := range []string{"acme", "acme.", ".orders", "a b.orders", "acme.o.s", ""} {
		if owner, name, ok := names.SplitWebhook(key); ok {
			t.Errorf("%q is the webhook %s of %s", key, name, owner)
		}
	}
	for _, subject := range []string{"comfy.events.webhooks.acme.orders.cat-1.7", "comfy.events.webhooks.acme.orders.cat-1.7.failed.x", "comfy.events.webhooks.acme..cat-1.7.failed"} {
		if owner, name, ok := names.WebhookOfTry(subject); ok {
			t.Errorf("%s is a try of the webhook %s of %s", subject, name, owner)
		}
	}
	for owner, want := range map[job.Tenant]bool{names.Fleet: true, "acme": true, "=": false, "a.b": false, "": false} {
		if names.ValidOwner(owner) != want {
			t.Errorf("%q may have webhooks: %t, want %t", owner, !want, want)
		}
	}
}

func TestAFileIsReadOutOfItsKey(t *testing.T) {
	t.Parallel()
	if name, ok := names.FileOfKey("YS9iLnBuZw=="); name != "a/b.png" || !ok {
		t.Errorf("%q, %t", name, ok)
	}
	if name, ok := names.FileOfKey("a/b.png"); ok {
		t.Errorf("a name that is no key is read as %q", name)
	}
}

// To NATS the names Traceparent and traceparent are different ones.
func TestATraceparentIsReadFromEitherName(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]map[string][]string{
		"00-a": {"traceparent": {"00-a", "00-b"}, "Traceparent": {"00-c"}}, "00-c": {"Traceparent": {"00-c"}}, "": {"traceparent": {}, "TRACEPARENT": {"00-d"}},
	} {
		if got := names.Traceparent(h); got != want {
			t.Errorf("%v: %q, want %q", h, got, want)
		}
	}
}
