package integration_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// is wants an error of a kind.
func is[E error](t *testing.T, what string, err error) {
	t.Helper()
	if _, is := errors.AsType[E](err); !is {
		t.Errorf("%s: want a %T, got %v", what, *new(E), err)
	}
}

// Rows 2 and 4: what a tenant may read and end by its calls is its own, whatever its requests say and wherever it has them
// answered, and whoever changes something is named.
func TestATenantsCallsReachItsOwnJobsAndNoOthers(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acmeConn, _ := f.tenant("acme")
	boltConn, refused := f.tenant("bolt")
	acme, bolt := jetstream.NewClient(acmeConn, "acme"), jetstream.NewClient(boltConn, "bolt")
	watcher, _ := f.as(f.folder.Watcher())
	acts := f.listen(watcher, "comfy.events.operator.*")
	events := f.listen(acmeConn, "comfy.events.jobs.acme.>")
	tomorrow := time.Now().Add(24 * time.Hour)
	for _, id := range []job.ID{"secret", "other"} {
		if _, err := acme.Submit(f.context(), 5, jetstream.Spec{ID: id, Workflow: picture(0x102030), RunAt: &tomorrow}); err != nil {
			t.Fatal(err)
		}
		f.next(events, "."+string(id)+".waiting")
	}

	f.boltAttacks(bolt, boltConn, refused)

	status, err := acme.Status(f.context(), "secret")
	if err != nil || status.State != job.Waiting || status.Of != 2 || len(status.Events) != 2 || status.Events[1].Event.EventKind != job.Waiting {
		t.Errorf("status: %+v, %v", status, err)
	}
	if why, err := acme.Why(f.context(), jetstream.WhyRequest{Job: "secret"}); err != nil || why.Reason != "not_due" {
		t.Errorf("why: %+v, %v", why, err)
	}
	if queue, err := acme.Queue(f.context()); err != nil || len(queue.Lanes) != 1 || queue.Lanes[0].Depth != 2 {
		t.Errorf("queue: %+v, %v", queue, err)
	}
	one, err := acme.Cancel(f.context(), jetstream.CancelRequest{Job: "secret", By: "ann"})
	if err != nil || one.State != job.Cancelled || one.Event.By != "tenant acme: ann" || one.Count != 1 {
		t.Errorf("cancel: %+v, %v", one, err)
	}
	f.heard(acts, "comfy.events.operator.cancel", "tenant acme: ann", 1)
	operator, _ := f.as(f.folder.Operator())
	answer, err := operator.RequestWithContext(f.context(), "comfy.api.cancel", []byte(`{"tenant":"acme","all":true,"by":"ops"}`))
	if err != nil || !strings.Contains(string(answer.Data), `"count":1`) {
		t.Errorf("the operator's cancel: %v, %v", answer, err)
	}
	f.heard(acts, "comfy.events.operator.cancel", "ops", 0, 1)
	f.ownLetters(acme, bolt, boltConn)
	f.heard(acts, "comfy.events.operator.requeue", "tenant bolt", 0, 1)
	f.runs(acmeConn, "acme", "after")
}

// boltAttacks tries what SECURITY's attacker tries, by calls.
func (f *closed) boltAttacks(bolt *jetstream.Client, nc *nats.Conn, refused <-chan error) {
	f.t.Helper()
	_, err := bolt.Status(f.context(), "secret")
	is[*jetstream.NotFound](f.t, "status of another's job", err)
	_, err = bolt.Cancel(f.context(), jetstream.CancelRequest{Job: "secret"})
	is[*jetstream.NotFound](f.t, "cancel of another's job", err)
	for _, call := range []string{"status", "why", "cancel", "dead", "requeue"} {
		for _, body := range []string{`{"tenant":"acme","job":"secret"}`, `{"tenant":"acme","all":true}`, `{"job":"x","TENANT":"acme"}`} {
			msg, err := nc.RequestWithContext(f.context(), "comfy.tenants.bolt."+call, []byte(body))
			if err != nil || msg.Header.Get("Nats-Service-Error-Code") != "400" {
				f.t.Errorf("%s %s: %+v, %v", call, body, msg, err)
			}
		}
	}
	if all, err := bolt.Cancel(f.context(), jetstream.CancelRequest{All: true}); err != nil || all.Count != 0 {
		f.t.Errorf("everything of bolt: %+v, %v", all, err)
	}
	for _, reply := range []string{"comfy.tenants.acme.cancel", "comfy.api.cancel", "comfy.api.requeue", "comfy.jobs.acme.5", "comfy.append.jobs.acme.secret.cancelled"} {
		if err := nc.PublishRequest("comfy.tenants.bolt.queue", reply, []byte("{}")); err != nil {
			f.t.Fatal(err)
		}
	}
	agent, host := f.as(f.folder.Agent("gpu-2", natsserver.AgentSettings{}))
	for _, subject := range []string{"comfy.tenants.acme.cancel", "comfy.append.operator.cancel"} {
		for _, from := range []struct {
			nc      *nats.Conn
			refused <-chan error
		}{{nc, refused}, {agent, host}} {
			if err := from.nc.Publish(subject, []byte(`{"job":"secret"}`)); err != nil {
				f.t.Fatal(err)
			}
			f.refusal(from.refused, subject)
		}
	}
	if _, err := nc.SubscribeSync("comfy.events.operator.*"); err != nil {
		f.t.Fatal(err)
	}
	f.refusal(refused, "comfy.events.operator.*")
}

// ownLetters has a job of bolt die, which bolt alone sees and runs again.
func (f *closed) ownLetters(acme, bolt *jetstream.Client, nc *nats.Conn) {
	f.t.Helper()
	ends := f.listen(nc, "comfy.events.jobs.bolt.>")
	if _, err := bolt.Submit(f.context(), 3, jetstream.Spec{ID: "late", Workflow: picture(0x102030), RunAt: new(time.Now().Add(time.Hour)), ExpiresIn: job.Duration(time.Millisecond)}); err != nil {
		f.t.Fatal(err)
	}
	f.next(ends, ".late.dead")
	if dead, err := acme.Dead(f.context(), jetstream.DeadRequest{}); err != nil || len(dead.Dead) != 0 {
		f.t.Errorf("acme's dead: %+v, %v", dead, err)
	}
	if again, err := acme.Requeue(f.context(), jetstream.RequeueRequest{All: true}); err != nil || again.Count != 0 {
		f.t.Errorf("acme requeues: %+v, %v", again, err)
	}
	if dead, err := bolt.Dead(f.context(), jetstream.DeadRequest{}); err != nil || len(dead.Dead) != 1 || dead.Dead[0].EventKind != job.Dead {
		f.t.Errorf("bolt's dead: %+v, %v", dead, err)
	}
	_, err := bolt.Requeue(f.context(), jetstream.RequeueRequest{})
	is[*jetstream.BadRequest](f.t, "a requeue of nothing in particular", err)
	if again, err := bolt.Requeue(f.context(), jetstream.RequeueRequest{All: true}); err != nil || again.Jobs["late"] != "late-r1" {
		f.t.Errorf("bolt requeues: %+v, %v", again, err)
	}
}

// heard wants the next acts to be of a call and by somebody, with these counts; that of one that begins is 0.
func (f *closed) heard(acts *nats.Subscription, subject, by string, counts ...int) {
	f.t.Helper()
	for _, count := range counts {
		msg, err := acts.NextMsgWithContext(f.context())
		if err != nil {
			f.t.Fatal(err)
		}
		var act queue.AuditRecord
		if err := json.Unmarshal(msg.Data, &act); err != nil || msg.Subject != subject || act.By != by || act.Count != count || act.Begins != (count == 0) {
			f.t.Errorf("heard %s %s, %v", msg.Subject, msg.Data, err)
		}
	}
}
