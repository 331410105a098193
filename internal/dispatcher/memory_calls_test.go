package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// What calls alone need of NATS.

func (m *memory) DeadLettersAfter(_ context.Context, tenant job.Tenant, since time.Time, after uint64, tell func(queue.DeadLetter) bool) error {
	if err := m.cutHere("read letters"); err != nil {
		return err
	}
	m.mu.Lock()
	var letters []queue.DeadLetter
	for _, sequence := range slices.Sorted(maps.Keys(m.letters)) {
		l := m.letters[sequence]
		if sequence > after && (tenant == "" || tenant == l.Tenant) && !l.Time.Before(since) {
			letters = append(letters, l)
		}
	}
	m.mu.Unlock()
	for _, l := range letters {
		if !tell(l) {
			break
		}
	}
	return nil
}

// Requeue publishes the job under the first of its further ids that has no chain.
func (m *memory) Requeue(_ context.Context, l *queue.DeadLetter, _ json.RawMessage, _ []string) (r jetstream.Receipt, err error) {
	err = m.write(func() {
		n := 1
		for ; len(m.chain(l.Tenant, job.RequeueID(l.Root(), n))) > 0; n++ {
		}
		r = jetstream.Receipt{Tenant: l.Tenant, Job: job.RequeueID(l.Root(), n)}
		m.publishHeld(job.Message{Tenant: string(l.Tenant), Priority: l.Priority(), JobIDHeader: string(r.Job), RequeueOf: string(l.Job), Body: l.Body})
	}, "requeue %s", l.Job)
	return r, err
}

func (m *memory) Requeued(_ context.Context, l *queue.DeadLetter) (bool, error) {
	return slices.Contains(m.done("requeue"), "requeue "+string(l.Job)), m.cutHere("look for the requeue of " + string(l.Job))
}

func (m *memory) put(bucket, key string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return m.write(func() { m.change(bucket, key, body, -1) }, "set %s of %s", key, bucket)
}

func (m *memory) SetAffinity(_ context.Context, hash workflow.Hash, a queue.Affinity) error {
	return m.put(names.AffinityBucket, string(hash), a)
}

func (m *memory) RemoveAffinity(_ context.Context, hash workflow.Hash) error {
	return m.write(func() { m.change(names.AffinityBucket, string(hash), nil, -1) }, "remove %s of %s", hash, names.AffinityBucket)
}

func (m *memory) SetTenant(_ context.Context, tenant job.Tenant, s queue.TenantSettings) error {
	return m.put(names.TenantsBucket, string(tenant), s)
}

func (m *memory) Tenant(_ context.Context, tenant job.Tenant) (queue.TenantSettings, error) {
	if err := m.cutHere("settings of " + string(tenant)); err != nil {
		return queue.TenantSettings{}, err
	}
	c := decoded(m.get(names.TenantsBucket, string(tenant)), queue.TenantOf)
	if c.Phase != queue.Put {
		return queue.TenantSettings{Weight: 1}, nil
	}
	return c.Value, nil
}

func (m *memory) Control(_ context.Context, host string, c queue.Control) (queue.Reply, error) {
	reply := queue.Reply{Answer: queue.Accepted, State: queue.HostState{State: queue.Online}}
	switch {
	case c.Drain:
		reply.State.State = queue.Draining
	case host == "sick":
		reply.Reason, reply.State.State = "it is not drained any more, but takes no jobs: its disk is full", queue.Unhealthy
	case host == "odd", !c.Resume:
		reply.Answer, reply.Reason = queue.Unfit, "a control asks for either drain or resume"
	}
	return reply, m.write(func() {}, "control %s drain %v by %s", host, c.Drain, c.By)
}

func (m *memory) Blocks(_ context.Context, tell func(queue.Change[route.Block])) error {
	if err := m.cutHere("read blocks"); err != nil {
		return err
	}
	m.mu.Lock()
	blocks := slices.Collect(maps.Values(m.bucket(names.BlocksBucket).keys))
	m.mu.Unlock()
	for _, c := range blocks {
		if c.Phase == queue.Put {
			tell(decoded(c, queue.BlockOf))
		}
	}
	return nil
}

// whoActed are the acts that were stored, one a line.
func (m *memory) whoActed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for _, a := range m.acts {
		if a.Begins {
			lines = append(lines, fmt.Sprintf("%s by %s for %q begins: %s", a.Call, a.By, a.Tenant, a.Request))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s by %s for %q: %d of %s", a.Call, a.By, a.Tenant, a.Count, a.Request))
	}
	return lines
}

// TriesOf finds none: nothing is delivered.
func (m *memory) TriesOf(_ context.Context, _ job.Tenant, id job.ID, _ uint64) ([]jetstream.WebhookTry, error) {
	return nil, m.read(func() {}, "tries of %s", id)
}

// ShortWorkflowFile reads a file that a test has put into files.
func (m *memory) ShortWorkflowFile(_ context.Context, name string) (body []byte, err error) {
	cut := m.read(func() {
		f, found := m.files[name]
		if body, err = f.body, f.fault; !found {
			err = queue.ErrNoFile
		}
	}, "file %s", name)
	if cut != nil {
		return nil, cut
	}
	return body, err
}

// workflowFile is a file with a job, or why it cannot be one.
type workflowFile struct {
	body  []byte
	fault error
}

func (m *memory) PutAPIKeys(_ context.Context, tenant job.Tenant, keys *jetstream.APIKeys) (time.Time, error) {
	return noon, m.write(func() {}, "keep keys %s/%s", tenant, keys.Job)
}
