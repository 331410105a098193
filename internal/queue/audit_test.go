package queue_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAnActIsStoredAndHeardWithWhoAndWhat(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	heard, err := nc.SubscribeSync("comfy.events.operator.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	act := queue.AuditRecord{
		Call: "requeue", By: "tenant acme: ann", Tenant: "acme", Request: json.RawMessage(`{"all":true}`), Count: 3,
		Time: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC),
	}
	if err := q.AppendAudit(t.Context(), &act, "comfyherd/dispatcher/d"); err != nil {
		t.Fatal(err)
	}
	msg, err := heard.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"call":"requeue","by":"tenant acme: ann","tenant":"acme","request":{"all":true},"count":3,"time":"2026-12-01T12:00:00Z"}`
	if msg.Subject != "comfy.events.operator.requeue" || string(msg.Data) != want {
		t.Errorf("heard %s %s", msg.Subject, msg.Data)
	}
	for header, want := range map[string]string{
		"Nats-Sequence": "1", "ce-specversion": "1.0", "ce-source": "comfyherd/dispatcher/d", "ce-type": "comfy.operator.requeue", "ce-subject": "acme",
		"ce-time": "2026-12-01T12:00:00Z", "Content-Type": "application/json",
	} {
		if got := msg.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
}

func TestTheNextJobOfATenantIsFoundInOneLaneOrInAll(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	for i, lane := range []job.Lane{{Tenant: "acme", Priority: 5}, {Tenant: "bolt", Priority: 5}, {Tenant: "acme", Priority: 2}, {Tenant: "acme", Priority: 5}} {
		if _, err := q.Submit(t.Context(), lane, jetstream.Spec{ID: job.ID([]string{"a", "b", "c", "d"}[i]), Workflow: []byte(smallWorkflow)}); err != nil {
			t.Fatal(err)
		}
	}
	five := job.Priority(5)
	walk := func(lane *job.Priority) (found []string) {
		for after := uint64(0); ; {
			m, there, err := q.NextStored(t.Context(), "acme", lane, after)
			if err != nil {
				t.Fatal(err)
			}
			if !there {
				return found
			}
			after = m.Sequence
			found = append(found, m.Tenant+" "+m.JobIDHeader)
		}
	}
	if diff := cmp.Diff([]string{"acme a", "acme d"}, walk(&five)); diff != "" {
		t.Errorf("lane 5, want (-) and got (+):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"acme a", "acme c", "acme d"}, walk(nil)); diff != "" {
		t.Errorf("all, want (-) and got (+):\n%s", diff)
	}
}

func TestAJobThatRunsIsSparedOnlyWhenThatIsAskedFor(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	last := uint64(0)
	for _, kind := range []job.EventKind{job.Queued, job.Started} {
		e := job.Event{EventKind: kind, Job: "a", Tenant: "acme", Priority: 3, Time: q.Now()}
		var err error
		if last, err = q.Append(t.Context(), &e, last, "test", ""); err != nil {
			t.Fatal(err)
		}
	}
	if e, ended, err := q.End(t.Context(), "acme", "a", queue.Cancelling{Spare: true, Force: true}); err != nil || ended || e.EventKind != job.Started {
		t.Errorf("spared: %s, %v, %v", e.EventKind, ended, err)
	}
	if e, ended, err := q.End(t.Context(), "acme", "a", queue.Cancelling{By: "ann"}); err != nil || !ended || e.EventKind != job.Cancelled || e.By != "ann" || e.Priority != 3 {
		t.Errorf("ended: %+v, %v, %v", e, ended, err)
	}
	if e, ended, err := q.End(t.Context(), "acme", "a", queue.Cancelling{By: "bob"}); err != nil || ended || e.By != "ann" {
		t.Errorf("ended again: %+v, %v, %v", e, ended, err)
	}
	if _, _, err := q.End(t.Context(), "acme", "b", queue.Cancelling{}); !errors.Is(err, queue.ErrNoJob) {
		t.Errorf("a job that nobody has seen: %v", err)
	}
	if e, ended, err := q.End(t.Context(), "acme", "b", queue.Cancelling{Force: true, Priority: 7}); err != nil || !ended || e.Priority != 7 || e.Reason != "unseen" {
		t.Errorf("the same by force: %+v, %v, %v", e, ended, err)
	}
	chain, err := q.Chain(t.Context(), "acme", "a")
	if err != nil || len(chain) != 3 || chain[2].Stored.IsZero() {
		t.Errorf("the chain is %+v, %v", chain, err)
	}
}

func TestTheSettingsOfOneTenantAreReadAlone(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	if err := q.SetTenant(t.Context(), "acme", queue.TenantSettings{Weight: 2, MaxRunning: 4}); err != nil {
		t.Fatal(err)
	}
	if s, err := q.Tenant(t.Context(), "acme"); err != nil || s.Weight != 2 || s.MaxRunning != 4 {
		t.Errorf("acme: %+v, %v", s, err)
	}
	if s, err := q.Tenant(t.Context(), "bolt"); err != nil || s.Weight != 1 || s.MaxRunning != 0 {
		t.Errorf("bolt: %+v, %v", s, err)
	}
}
