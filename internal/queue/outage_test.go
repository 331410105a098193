package queue_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// If an error counted as "there is none", a job would run twice or a block would be forgotten.
func TestWithoutNATSEveryQuestionIsAnErrorAndNoAnswer(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	nc.Close()
	letter := queue.DeadLetter{Sequence: 1, Tenant: "acme", Job: "one", Body: []byte(`{}`), Header: nats.Header{}}
	event := job.Event{EventKind: job.Queued, Tenant: "acme", Job: "one", Time: time.Now()}
	lane := jetstream.Lane{Tenant: "acme", Priority: 5}
	type answer = bool
	for name, ask := range map[string]func() (answer, error){
		"Block":    func() (answer, error) { c, err := q.Block(ctx, "gpu", aHash); return c.Phase == queue.Gone, err },
		"Blocks":   func() (answer, error) { return false, q.Blocks(ctx, func(queue.Change[route.Block]) {}) },
		"Strikes":  func() (answer, error) { c, err := q.Strikes(ctx, "gpu", aHash); return c.Phase == queue.Gone, err },
		"Open":     func() (answer, error) { return q.OpenBlock(ctx, "gpu", aHash, fullBlock("*"), time.Minute) },
		"Replace":  func() (answer, error) { return q.ReplaceBlock(ctx, "gpu", aHash, fullBlock("*"), time.Minute, 1) },
		"Lift":     func() (answer, error) { return q.LiftBlock(ctx, "gpu", aHash, 1, queue.Cleared) },
		"Strike":   func() (answer, error) { return q.PutStrikes(ctx, "gpu", aHash, []byte(`{}`), time.Minute, 0) },
		"Restrike": func() (answer, error) { return q.PutStrikes(ctx, "gpu", aHash, []byte(`{}`), time.Minute, 1) },
		"Clear":    func() (answer, error) { return q.ClearStrikes(ctx, "gpu", aHash, 1) },
		"Ticket": func() (answer, error) {
			_, found, claimed, err := q.Ticket(ctx, "5.acme."+aHash+".7")
			return found || !claimed.IsZero(), err
		},
		"PutTicket": func() (answer, error) { n, err := q.PutTicket(ctx, &queue.Ticket{Tenant: "acme"}); return n != 0, err },
		"TicketLog": func() (answer, error) { l, err := q.TicketLog(ctx); return l != queue.TicketLog{}, err },
		"TicketsAfter": func() (answer, error) {
			told := false
			err := q.TicketsAfter(ctx, 0, func(queue.Change[queue.Ticket]) { told = true })
			return told, err
		},
		"Claim":        func() (answer, error) { n, err := q.Claim(ctx, "5.acme."+aHash+".7", 1); return n != 0, err },
		"Slots":        func() (answer, error) { _, n, err := q.Slots(ctx, "acme"); return n != 0, err },
		"PutSlots":     func() (answer, error) { return q.PutSlots(ctx, "acme", nil, 0) },
		"Tenant":       func() (answer, error) { s, err := q.Tenant(ctx, "acme"); return s.Weight != 0, err },
		"Tenants":      func() (answer, error) { _, err := q.Tenants(ctx); return false, err },
		"SetTenant":    func() (answer, error) { return false, q.SetTenant(ctx, "acme", queue.TenantSettings{Weight: 1}) },
		"Affinity":     func() (answer, error) { return false, q.SetAffinity(ctx, aHash, queue.Affinity{}) },
		"NoAffinity":   func() (answer, error) { return false, q.RemoveAffinity(ctx, aHash) },
		"Condition":    func() (answer, error) { c, err := q.Condition(ctx, "gpu"); return c.Drained, err },
		"PutCondition": func() (answer, error) { return false, q.PutCondition(ctx, "gpu", &queue.HostCondition{}) },
		"Grant":        func() (answer, error) { return false, q.PutGrant(ctx, "gpu", queue.HostGrant{Time: time.Now()}) },
		"Host":         func() (answer, error) { _, found, err := q.Host(ctx, "gpu"); return found, err },
		"Hosts":        func() (answer, error) { hosts, err := q.Hosts(ctx); return hosts != nil, err },
		"Beat":         func() (answer, error) { return false, q.Beat(ctx, &queue.HostState{Host: "gpu"}) },
		"BeatOfOne":    func() (answer, error) { return false, q.BeatDispatcher(ctx, &queue.DispatcherState{Dispatcher: "me"}) },
		"Leave":        func() (answer, error) { return false, q.Leave(ctx, "gpu") },
		"LeaveOfOne":   func() (answer, error) { return false, q.LeaveDispatcher(ctx, "me") },
		"Capability":   func() (answer, error) { c, err := q.Capability(ctx, "gpu"); return c != nil, err },
		"PutCapability": func() (answer, error) {
			return false, q.PutCapability(ctx, "gpu", []byte("cap\x01"))
		},
		"HostStates":   func() (answer, error) { states, err := q.HostStates(ctx); return states != nil, err },
		"AnnounceHost": func() (answer, error) { return false, q.AnnounceHost(ctx, "gpu", queue.HostOnline, "") },
		"Append":       func() (answer, error) { n, err := q.Append(ctx, &event, 0, "x", ""); return n != 0, err },
		"Last":         func() (answer, error) { _, found, err := q.Last(ctx, "acme", "one"); return found, err },
		"LastOf":       func() (answer, error) { _, found, err := q.LastOf(ctx, "acme", "one", job.Failed); return found, err },
		"Chain":        func() (answer, error) { chain, err := q.Chain(ctx, "acme", "one"); return chain != nil, err },
		"Cancel":       func() (answer, error) { e, err := q.Cancel(ctx, "acme", "one", "", true); return e.Job != "", err },
		"Stored":       func() (answer, error) { m, err := q.Stored(ctx, 1); return m.Sequence != 0, err },
		"NextStored":   func() (answer, error) { _, found, err := q.NextStored(ctx, "acme", nil, 0); return found, err },
		"Depth":        func() (answer, error) { lanes, err := q.Depth(ctx); return lanes != nil, err },
		"JobsHeld":     func() (answer, error) { n, _, err := q.JobsHeld(ctx); return n != 0, err },
		"Extend":       func() (answer, error) { return false, q.Extend(aLease) },
		"ExtendSurely": func() (answer, error) { return false, q.ExtendSurely(ctx, aLease) },
		"Park":         func() (answer, error) { return false, q.Park(aLease, time.Second) },
		"FinishSoon":   func() (answer, error) { return false, q.FinishSoon(aLease) },
		"Erase":        func() (answer, error) { return false, q.Erase(ctx, 1) },
		"Bury": func() (answer, error) {
			n, err := q.Bury(ctx, &job.Message{Tenant: "acme"}, &event, 0)
			return n != 0, err
		},
		"DeadLetters": func() (answer, error) {
			return false, q.DeadLetters(ctx, "", time.Time{}, func(queue.DeadLetter) bool { return true })
		},
		"Requeue":  func() (answer, error) { r, err := q.Requeue(ctx, &letter, nil, nil); return r.Sequence != 0, err },
		"Requeued": func() (answer, error) { return q.Requeued(ctx, &letter) },
		"Purge":    func() (answer, error) { return false, q.Purge(ctx, &letter) },
		"Submit": func() (answer, error) {
			r, err := q.Submit(ctx, lane, jetstream.Spec{Workflow: []byte(smallWorkflow)})
			return r.Sequence != 0, err
		},
		"Offer": func() (answer, error) { r, err := q.Offer(ctx, "gpu", plainOffer()); return r.Answer != "", err },
		"Control": func() (answer, error) {
			r, err := q.Control(ctx, "gpu", queue.Control{Drain: true})
			return r.Answer != "", err
		},
		"Broadcast":   func() (answer, error) { return false, q.Broadcast(&queue.HostState{Host: "gpu"}) },
		"Progress":    func() (answer, error) { return false, q.PublishProgress("acme", "one", jetstream.Progress{}) },
		"Preview":     func() (answer, error) { return false, q.PublishPreview("acme", "one", "image/png", nil) },
		"AppendAudit": func() (answer, error) { return false, q.AppendAudit(ctx, &queue.AuditRecord{Call: "drain"}, "x") },
		"EventsState": func() (answer, error) { _, err := q.EventsState(ctx); return false, err },
		"EventsPage": func() (answer, error) {
			a, err := q.EventsPage(ctx, "acme", jetstream.EventsRequest{})
			return a.Events != nil, err
		},
		"StoreOutput": func() (answer, error) {
			f, err := q.StoreOutput(ctx, "a", "", bytes.NewReader([]byte("x")))
			return f.Name != "", err
		},
		"OpenOutput": func() (answer, error) { r, _, err := q.OpenOutput(ctx, "a"); return r != nil, err },
		"StatFile":   func() (answer, error) { f, err := q.StatFile(ctx, "COMFY_OUTPUTS", "a"); return f.Name != "", err },
		"Secret":     func() (answer, error) { s, err := q.Secret(ctx, "x"); return s != nil, err },
		"InputsUse":  func() (answer, error) { _, err := q.InputsUse(ctx); return false, err },
	} {
		if answer, err := ask(); err == nil || answer {
			t.Errorf("%s: answer %t, error %v", name, answer, err)
		}
	}
}
