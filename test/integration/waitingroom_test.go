package integration_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const waitingRoom = "KV_COMFY_WAITING"

// tickets are the keys of the waiting room, without claims.
func (f *fleet) tickets() []string {
	f.t.Helper()
	var keys []string
	for subject := range f.subjects(waitingRoom, ">") {
		if m := f.stored(waitingRoom, subject); m != nil && m.Header.Get("KV-Operation") == "" {
			keys = append(keys, strings.TrimPrefix(subject, "$KV.COMFY_WAITING."))
		}
	}
	slices.Sort(keys)
	return keys
}

// parked submits a job that waits for a host and gives it when its ticket is there.
func (f *fleet) parked(spec job.Spec) jetstream.Receipt {
	f.t.Helper()
	n := len(f.tickets())
	r := f.submit("acme", spec)
	f.eventually("a ticket", func() bool { return len(f.tickets()) == n+1 })
	return r
}

// join starts the agent of a host that was not there yet.
func (f *fleet) join(host string) { f.agent(host, f.sims[host].URL(), agent.Config{}) }

func TestATicketIsWhatTheContractSaysAndGoesWithItsJob(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	at := time.Now().Add(time.Hour)
	w := picture(1)
	r := f.parked(job.Spec{ID: "later", Workflow: w, RunAt: &at, ExpiresIn: job.Duration(2 * time.Hour), PreferHosts: []string{"a"}, ExcludeHosts: []string{"b"}})
	key := f.tickets()[0]
	if want := fmt.Sprintf("5.acme.%s.%d", hashOf(t, w), r.Sequence); key != want {
		t.Errorf("the key is %s, want %s", key, want)
	}
	got := fields(t, f.stored(waitingRoom, "$KV.COMFY_WAITING."+key).Data)
	wantKeys(t, "a ticket", got, "job", "lease", "size", "prefer_hosts", "exclude_hosts", "attempt", "not_before", "expires", "received")
	if lease, _ := got["lease"].(string); got["job"] != "later" || got["attempt"] != 1.0 || got["size"] != 256.0 || !strings.HasPrefix(lease, "$JS.ACK.") {
		t.Errorf("the ticket is %v", got)
	}
	status := call[jetstream.JobStatus](f, "status", jetstream.StatusRequest{Tenant: "acme", Job: "later"})
	if status.State != job.Waiting || status.Event.Reason != "not_due" || status.Position != 1 || status.Of != 1 {
		t.Errorf("status is %+v", status)
	}
	if _, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "test", false); err != nil {
		t.Fatal(err)
	}
	f.eventually("no ticket", func() bool { return len(f.tickets()) == 0 })
	f.drained()
}

func TestAScheduledJobStartsWhenItIsDueAndNotBefore(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	at := time.Now().Add(6 * time.Second) // by which it waits
	r := f.submit("acme", job.Spec{Workflow: picture(1), RunAt: &at})
	f.await(r, job.Waiting)
	f.end(f.submit("acme", job.Spec{Workflow: picture(2)})) // jobs that are due pass it
	chain := f.chain(r)
	if got, want := kinds(chain), "queued waiting started completed"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	if chain[1].Reason != "not_due" || chain[1].Until == nil || !chain[1].Until.Equal(at) {
		t.Errorf("waiting says %q until %v, want until %v", chain[1].Reason, chain[1].Until, at)
	}
	if chain[2].Time.Before(at) {
		t.Errorf("it was started at %v, before %v", chain[2].Time, at)
	}
}

func TestAJobThatNobodyHasTakenInTimeExpires(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	busy := f.occupy("a", 1)
	held := f.submit("acme", job.Spec{Workflow: nap(60, 100, 4)})
	f.await(held, job.Started) // by which the host has no room for one more
	reasons := map[string]string{}
	for name, spec := range map[string]job.Spec{
		"busy":     {Workflow: nap(0.01, 0, 2), ExpiresIn: job.Duration(300 * time.Millisecond)},
		"excluded": {Workflow: picture(3), OnlyHosts: []string{"nowhere"}, ExpiresIn: job.Duration(300 * time.Millisecond)},
	} {
		end := f.end(f.submit("acme", spec))
		reasons[name] = end.Reason
		if end.EventKind == job.Dead && (end.Message == "" || len(end.Attempts) != 0) {
			t.Errorf("%s: dead says %q with %d attempts", name, end.Message, len(end.Attempts))
		}
	}
	if want := string(failure.Expired); reasons["busy"] != want || reasons["excluded"] != want {
		t.Errorf("jobs ended %v, want all expired", reasons)
	}
	f.cancel(held, busy) // which run on
}

func TestJobsOutliveTheirTickets(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{"Purged": "$JS.API.STREAM.PURGE.", "Deleted": "$JS.API.STREAM.DELETE."} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{noAgents: true, hosts: names("a"), dispatchers: 2, jetstream: shortLeases(), config: dispatcher.Config{Park: time.Second}})
			first, second := f.parked(job.Spec{Workflow: picture(1)}), f.parked(job.Spec{Workflow: picture(2)})
			var done struct{ Success bool }
			f.request(nats.NewMsg(spoil+waitingRoom), &done)
			if !done.Success {
				t.Fatal("the waiting room stands as before")
			}
			f.join("a")
			for _, r := range []jetstream.Receipt{first, second} {
				if got, want := story(f.chain(r)), "queued waiting started@a completed@a"; got != want {
					t.Errorf("chain is %q, want %q", got, want)
				}
			}
		})
	}
}

func TestAChainIsRenewedBeforeItsEventsAreForgotten(t *testing.T) {
	t.Parallel()
	cfg := shortLeases()
	cfg.EventsAge = 8 * time.Second // renewed from the half on
	f := start(t, setup{noAgents: true, hosts: names("a"), dispatchers: 2, jetstream: cfg, config: dispatcher.Config{Park: 500 * time.Millisecond}})
	o := f.order()
	f.parked(job.Spec{ID: "old", Workflow: picture(1)})
	// The third renewal comes when the first event must be forgotten.
	f.eventually("three renewals", func() bool {
		return count(o.words(), func(w string) bool { return w == "acme/old.waiting" }) >= 4
	})
	f.eventually("the first event forgotten", func() bool { return f.total("COMFY_EVENTS", "comfy.events.jobs.acme.old.queued") == 0 })
	last := f.stored("COMFY_EVENTS", "comfy.events.jobs.acme.old.*")
	if last == nil {
		t.Fatal("the job has outlived its chain")
	}
	if got := fields(t, last.Data); got["reason"] != "none_capable" {
		t.Errorf("the renewal says %v", got)
	}
	f.join("a")
	f.has(o, "acme/old.completed")
	if n := count(o.words(), func(w string) bool { return w == "acme/old.queued" || w == "acme/old.started" }); n != 2 {
		t.Errorf("the job was queued and started %d times in all, want once each: %v", n, o.words())
	}
}

func TestADispatcherThatStartsFindsTheWaitingRoomAsItWas(t *testing.T) {
	t.Parallel()
	f := start(t, setup{noAgents: true, hosts: names("a")})
	stop, _ := f.dispatcher(dispatcher.Config{})
	var jobs []jetstream.Receipt
	for n := range 20 {
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: inverted(n, n/2)}))
	}
	gone := f.submit("bolt", job.Spec{ID: "gone", Workflow: inverted(1, 12)})
	f.eventually("tickets", func() bool { return len(f.tickets()) == 21 })
	stop()
	// One job's message is removed by hand while nobody looks; its ticket must not stay for ever.
	var done struct{ Success bool }
	f.request(&nats.Msg{Subject: "$JS.API.STREAM.MSG.DELETE.COMFY_JOBS", Data: []byte(`{"seq":` + strconv.FormatUint(gone.Sequence, 10) + `}`)}, &done)
	if !done.Success {
		t.Fatal("the message was not removed")
	}
	f.dispatcher(dispatcher.Config{})
	f.join("a")
	for _, r := range jobs {
		if e := f.end(r); e.EventKind != job.Completed {
			t.Errorf("job %s ended %s", r.Job, e.EventKind)
		}
	}
	f.eventually("no ticket", func() bool { return len(f.tickets()) == 0 })
	if _, err := f.q.Cancel(f.context(), gone.Tenant, gone.Job, "test", false); err != nil { // nobody else ends it
		t.Fatal(err)
	}
}

func TestAWaitingJobKnowsItsPlaceAndWhenItMayStart(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a"), agent: agent.Config{Prefetch: -1}})
	f.end(f.submit("acme", job.Spec{Workflow: nap(0.2, 0, 1)})) // by which the run time is known
	running := f.submit("acme", job.Spec{Workflow: nap(60, 100, 1)})
	f.await(running, job.Started)
	var jobs []jetstream.Receipt
	for n := range 4 {
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: nap(0.05, 0, n)}))
		f.await(jobs[n], job.Queued)
	}
	f.eventually("all parked", func() bool { return len(f.tickets()) == 4 }) // a job on the way there has no place
	var etas []time.Time
	f.eventually("places", func() bool {
		etas = nil
		for n, r := range jobs {
			s := call[jetstream.JobStatus](f, "status", jetstream.StatusRequest{Tenant: r.Tenant, Job: r.Job})
			if s.Position != n+1 || s.Of != 4 || s.ETA == nil {
				return false
			}
			etas = append(etas, *s.ETA)
		}
		return true
	})
	if !slices.IsSortedFunc(etas, time.Time.Compare) || !etas[3].After(etas[0].Add(100*time.Millisecond)) {
		t.Errorf("the jobs may start at %v", etas)
	}
	lanes := call[jetstream.QueueAnswer](f, "queue", struct{}{}).Lanes
	if len(lanes) != 1 || lanes[0].Tenant != "acme" || lanes[0].Depth != 4 || lanes[0].Running != 1 || lanes[0].Oldest.IsZero() || lanes[0].Share != 1 {
		t.Errorf("lanes are %+v", lanes)
	}
	why := call[jetstream.WhyAnswer](f, "why", jetstream.WhyRequest{Tenant: "acme", Job: jobs[3].Job})
	if why.Position != 4 || why.Of != 4 || why.Reason != "" || len(why.Hosts) != 1 || why.Hosts[0].Code != "busy" {
		t.Errorf("why says %+v", why)
	}
	f.cancel(running)
	for _, r := range jobs {
		f.end(r)
	}
}

// unable is how many jobs that cannot run wait before the one that can.
var unable = flag.Int("waiting", crowd/2, "jobs that cannot run and wait before the one that can")

func TestAJobForAnIdleHostPassesAllThatCannotRun(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b"), jetstream: queue.Config{LaneCap: *unable}})
	o := f.order()
	empty := f.lags("empty", 20, "a", "b")
	// Half of them wait for a host that is busy, half for one on which they are excluded.
	var busy []jetstream.Receipt // one runs, for longer than the test, and one is held
	for n := range 2 {
		busy = append(busy, f.submit("acme", onlyOn("a", nap(1200, 6000, n))))
		f.await(busy[n], job.Started)
	}
	f.flood(*unable, "a", "nowhere")
	if end := f.end(f.submit("bolt", job.Spec{ID: "fresh", Workflow: picture(4)})); end.Host != "b" {
		t.Errorf("the fresh job ended %s on %q", end.EventKind, end.Host)
	}
	f.has(o, "bolt/fresh.completed")
	words := o.words()
	if n := count(words, func(w string) bool { return strings.HasPrefix(w, "acme/pinned") && strings.HasSuffix(w, ".started") }); n != 0 {
		t.Errorf("%d jobs for the busy host were started", n)
	}
	// In full, with all of them parked, the next ones pass too, and no ticket of the others is touched.
	f.reaches("parked", *unable, func() int { return min(*unable, f.total(waitingRoom, ">")) })
	most := 4*middle(empty) + 50*time.Millisecond
	full := f.lags("full", 20, "b")
	for again := 1; middle(full) > most && again < 5; again++ { // the machine may have had other work for a while
		full = f.lags(fmt.Sprint("again-", again), 20, "b")
	}
	t.Logf("from the publish to the start: %v in an empty system, %v behind %d jobs that cannot run (medians of %d)", middle(empty), middle(full), *unable, len(full))
	if middle(full) > most {
		t.Errorf("%v, and %v in an empty system", full, empty)
	}
	if left := f.total("COMFY_JOBS", "comfy.jobs.acme.9"); left != *unable {
		t.Errorf("%d of %d jobs wait", left, *unable)
	}
	for n := range *unable {
		if _, err := f.q.Cancel(f.context(), "acme", job.ID(fmt.Sprint("pinned-", n)), "test", true); err != nil {
			t.Fatal(err)
		}
	}
	f.cancel(busy[1], busy[0])
}

// flood publishes jobs of priority 9, each for one of the hosts only.
func (f *fleet) flood(n int, only ...string) {
	f.t.Helper()
	var bodies [][]byte
	for _, host := range only {
		body, err := json.Marshal(job.Spec{Workflow: picture(3), OnlyHosts: []string{host}})
		if err != nil {
			f.t.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	for n := range n {
		msg := nats.NewMsg("comfy.jobs.acme.9")
		msg.Header.Set("Comfy-Job-Id", fmt.Sprint("pinned-", n))
		msg.Data = bodies[n%len(bodies)]
		if err := f.nc.PublishMsg(msg); err != nil {
			f.t.Fatal(err)
		}
	}
}

// An offer as any listener sees it tells the lease of a job that runs. The ticket is what a dispatcher leaves behind
// that was frozen between its decision to park the job and the put.
func TestAStaleTicketOfAJobThatRunsStartsNothing(t *testing.T) {
	t.Parallel()
	for name, expires := range map[string]time.Duration{"HostFree": 0, "TimeOver": -time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
			offers, err := f.nc.SubscribeSync("comfy.hosts.*.offer")
			if err != nil {
				t.Fatal(err)
			}
			w := sleep(0x123456, 1.5)
			r := f.submit("acme", job.Spec{ID: "once", Workflow: w})
			f.await(r, job.Started)
			offer, err := offers.NextMsgWithContext(f.context())
			if err != nil {
				t.Fatal(err)
			}
			stale := queue.Ticket{
				Priority: job.Usual, Tenant: "acme", Hash: hashOf(t, w), Sequence: r.Sequence, Job: "once",
				Lease: queue.Lease(offer.Header.Get("Comfy-Lease")), Attempt: 1, Received: time.Now(),
			}
			if expires != 0 {
				at := time.Now().Add(expires)
				stale.Expires = &at
			}
			if _, err := f.q.PutTicket(f.context(), &stale); err != nil {
				t.Fatal(err)
			}
			f.eventually("the ticket claimed", func() bool { return len(f.tickets()) == 0 })
			chain := f.chain(r)
			if got := kinds(chain); got != "queued started completed" {
				t.Errorf("chain is %q, want one run", story(chain))
			}
			if n := f.runs(); n["a"]+n["b"] != 1 {
				t.Errorf("runs are %v, want one", n)
			}
		})
	}
}

// lags runs jobs one by one, on these hosts, and gives how long each took from its publish to its start, sorted.
func (f *fleet) lags(id string, n int, hosts ...string) []time.Duration {
	f.t.Helper()
	var lags []time.Duration
	for k := range n {
		end := f.end(f.submit("bolt", job.Spec{ID: job.ID(fmt.Sprint(id, "-", k)), Workflow: picture(10 + k)}))
		if !slices.Contains(hosts, end.Host) {
			f.t.Errorf("job %s-%d ended %s on %q", id, k, end.EventKind, end.Host)
		}
		lags = append(lags, time.Duration(end.QueuedFor))
	}
	slices.Sort(lags)
	return lags
}

func middle(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }
