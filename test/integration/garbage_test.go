package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// rubbish is what somebody else may write: no JSON, the wrong JSON, and JSON of the right form with odd values.
func rubbish() [][]byte {
	return [][]byte{
		nil, []byte("\x00\xff\xfe"), []byte("null"), []byte("[]"), []byte(`"text"`), []byte("-1e999"), []byte(`{"host":`),
		[]byte(strings.Repeat("[", 20_000)),
		[]byte(`{"host":"rogue","instance":"i","state":"online","slots":1000000000,"prefetch":-5,"serial":18446744073709551615,"time":"2999-01-01T00:00:00Z"}`),
		[]byte(`{"host":"a","instance":"rogue","state":"unhealthy","slots":-1,"serial":1,"time":"2999-01-01T00:00:00Z","ended":{"ran_for":"-9h","hash":"x"}}`),
		[]byte(`{"job":"x","lease":"$JS.ACK.nothing","attempt":-9,"size":-1,"not_before":"0001-01-01T00:00:00Z","received":"2999-01-01T00:00:00Z"}`),
		[]byte(`{"tenants":{"acme":-7},"common":-3,"level":2000000000,"size":-4,"marks":[1,2,3],"open":{"until":"0001-01-01T00:00:00Z"}}`),
		[]byte(`{"host":"b","hash":"zz","kind":"mood","tenants":[""],"failures":-1,"level":-5,"size":-1,"until":"9999-12-31T00:00:00Z"}`),
		[]byte(`{"prefer":["","*","a.b",">"],"exclude":["=", "gpu="]}`),
		[]byte(`{"weight":-1,"max_running":-9}`), []byte(`{"weight":1e308,"max_running":-9}`), []byte(`{"weight":0}`),
		[]byte(`{"job":"other","tenant":"other","sequence":99999,"attempt":2000000000,"host":"a","kind":"mood","metadata":"{"}`),
		[]byte(`{"sequence":1,"attempt":-1,"host":"","kind":"execution_error","size":-1,"attempts":[{}]}`),
	}
}

func TestWhatSomebodyElseWritesNeitherPanicsNorStopsALane(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b"), jetstream: shortLeases(), foreign: true, config: dispatcher.Config{Park: 2 * time.Second}})
	hash := string(hashOf(t, picture(1)))
	first := f.end(f.submit("acme", job.Spec{Workflow: picture(1)}))
	victim := f.submit("acme", onlyOn("late", sleep(2, 0.2))) // its chain is written into as well
	f.await(victim, job.Waiting)
	keys := map[string][]string{
		"COMFY_WAITING": {"5.acme." + hash + ".4711", "9.acme.x.1", "x", "5.acme." + hash + ".0", "0.rogue." + hash + ".1"},
		"COMFY_BLOCKS":  {"rogue." + hash, "a.x", "nodot", "a.b.c"}, "COMFY_STRIKES": {"a." + hash, "b.x", "nodot"},
		"COMFY_HOSTS": {"rogue", "a.b", "a"}, "COMFY_DISPATCHERS": {"rogue", "a.b"}, "COMFY_CAPABILITIES": {"rogue", "a.b"},
		"COMFY_AFFINITY": {hash, "x"}, "COMFY_GRANTS": {"rogue", "a.b"}, "COMFY_SLOTS": {"acme", "rogue"}, "COMFY_CONDITIONS": {"rogue", "a"}, "COMFY_TENANTS": {"acme", "rogue", "a.b"},
	}
	for bucket, all := range keys {
		for _, key := range all {
			for _, body := range rubbish() {
				f.put("$KV."+bucket+"."+key, body)
			}
		}
	}
	chain := "comfy.append.jobs.acme." + string(victim.Job) + "."
	for _, body := range rubbish() {
		for _, kind := range []string{"queued", "waiting", "started", "failed", "retrying", "mood"} {
			f.put("comfy.append.jobs.acme.stranger."+kind, body)
			f.put("comfy.append.jobs.rogue.j-rogue-7."+kind, body)
			f.put(chain+"mood", body)
		}
		f.put(chain+"failed", body)
		f.put("comfy.append.jobs.a.b.c.d", body)
		f.put("comfy.append.jobs", body)
		f.put("comfy.append.blocks.a."+hash+".blocked", body)
		f.put("comfy.append.hosts.a.mood", body)
		f.put("comfy.dead.acme", body)
		for _, subject := range []string{"comfy.hosts.a.state", "comfy.hosts.rogue.state", "comfy.hosts.a.offer", "comfy.hosts.a.control", "comfy.live.jobs.acme.x.progress"} {
			if err := f.nc.Publish(subject, body); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"status", "hosts", "blocks", "unblock", "why", "queue", "cancel", "dead", "affinity"} {
			if err := f.nc.PublishRequest("comfy.api."+name, "_INBOX.nobody", body); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.agentLate()
	for n := range 6 {
		tenant := []string{"acme", "rogue", "umbrella"}[n%3]
		r := f.submit(tenant, job.Spec{Workflow: picture(n), OnlyHosts: []string{[]string{"a", "b"}[n%2]}})
		if end := f.end(r); end.EventKind != job.Completed {
			t.Errorf("job %d ended %s (%s): %s", n, end.EventKind, end.Reason, end.Message)
		}
	}
	f.eventually("the job whose chain was written into has ended", func() bool {
		link, _, err := f.q.Last(f.context(), victim.Tenant, victim.Job)
		return err == nil && link.EventKind.Terminal()
	})
	if again, _, err := f.q.Last(f.context(), "acme", first.Job); err != nil || again.EventKind != job.Completed {
		t.Errorf("the first job is %s, %v", again.EventKind, err)
	}
	var blocks queue.BlocksAnswer
	if err := f.q.Call(f.context(), "blocks", queue.BlocksRequest{}, &blocks); err != nil || len(blocks.Blocks) > 0 {
		t.Errorf("blocks: %v, %v", blocks.Blocks, err)
	}
	var hosts queue.HostsAnswer
	if err := f.q.Call(f.context(), "hosts", struct{}{}, &hosts); err != nil || len(hosts.Hosts) != 3 {
		t.Errorf("hosts: %+v, %v", hosts.Hosts, err)
	}
	var answer jetstream.DeadAnswer
	if err := f.q.Call(f.context(), "dead", jetstream.DeadRequest{}, &answer); err != nil {
		t.Errorf("dead: %v", err)
	}
	f.drained()
}

// agentLate brings up the host late.
func (f *fleet) agentLate() {
	f.t.Helper()
	f.sim(names("late")[0])
	f.agent("late", f.sims["late"].URL(), setup{}.agent)
}

// put stores a message somewhere, as any client can.
func (f *fleet) put(subject string, body []byte) {
	f.t.Helper()
	var ack struct{ Error *struct{ Description string } }
	reply, err := f.nc.RequestMsgWithContext(f.context(), &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return // no stream takes it, which is as well
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		f.t.Fatalf("store on %s: %v", subject, err)
	}
}

// What a foreign hand may have written, through all that reads it.
func FuzzForeignValues(f *testing.F) {
	for _, body := range rubbish() {
		body = body[:min(len(body), 500)] // a deep nest of brackets is seconds of minimizing
		for _, key := range []string{"a", "5.acme.x.7", "x", "", "......", "-1.a.b.-1"} {
			f.Add(key, body)
		}
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		e := queue.Entry{Phase: queue.Put, Key: key, Value: value, Revision: 1}
		if ticket, err := queue.TicketOf(e); err == nil {
			if ticket.Job == "" || ticket.Lease == "" {
				t.Errorf("a ticket without a job or lease: %q %q", key, value)
			}
			if _, err := queue.TicketAt(ticket.Key()); err != nil {
				t.Errorf("the ticket of %q has the key %q: %v", key, ticket.Key(), err)
			}
		}
		if state, err := queue.HostStateOf(e); err == nil && state.Host != key {
			t.Errorf("host %q from %q", state.Host, key)
		}
		_, _ = queue.AffinityOf(e)
		_, _ = queue.StrikesOf(e)
		_, _ = queue.CapabilityOf(e)
		if s, err := queue.TenantOf(e); err == nil && s.Weight <= 0 {
			t.Errorf("weight %v from %q", s.Weight, value)
		}
		queue.PairOf(key)
		for _, kind := range append(job.EventKinds(), "mood") {
			e, err := job.DecodeEvent(kind, value)
			if err != nil {
				continue
			}
			if _, err := e.Encode(); err != nil {
				t.Errorf("%s from %q cannot be written again: %v", kind, value, err)
			}
			_ = fmt.Sprint(e.Failure().Signature())
		}
	})
}
