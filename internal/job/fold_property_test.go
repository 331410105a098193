package job_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
)

// plain is the fold in its simplest form, without regard to time and memory: a list in the order of last events.
type plain struct {
	limit int
	rows  []job.Row // oldest last event first
	since job.Mark
}

func (p *plain) add(e *job.StoredEvent) {
	r := job.Row{Tenant: e.Tenant, Job: e.Job, First: job.Mark{Sequence: e.Sequence, Time: e.Time}}
	if i := slices.IndexFunc(p.rows, func(r job.Row) bool { return r.Tenant == e.Tenant && r.Job == e.Job }); i >= 0 {
		r = p.rows[i]
		p.rows = slices.Delete(p.rows, i, i+1)
	}
	r.State, r.Last = e.Kind, job.Mark{Sequence: e.Sequence, Time: e.Time}
	r.Priority, r.Reason = e.Brief.Priority, e.Brief.Reason
	if e.Brief.Host != "" {
		r.Host = e.Brief.Host
	}
	if e.Brief.Hash != "" {
		r.Hash = e.Brief.Hash
	}
	p.rows = append(p.rows, r)
	if len(p.rows) > p.limit {
		p.drop(max(slices.IndexFunc(p.rows, func(r job.Row) bool { return r.State.Terminal() }), 0))
	}
}

func (p *plain) drop(i int) {
	if last := p.rows[i].Last; last.Sequence >= p.since.Sequence {
		p.since = job.Mark{Sequence: last.Sequence + 1, Time: last.Time}
	}
	p.rows = slices.Delete(p.rows, i, i+1)
}

func (p *plain) forget(first job.Mark) {
	for len(p.rows) > 0 && p.rows[0].Last.Sequence < first.Sequence {
		p.drop(0)
	}
	if first.Sequence >= p.since.Sequence {
		p.since = first
	}
}

func (p *plain) newest(q *job.Query) []job.Row {
	var found []job.Row
	for _, r := range slices.Backward(p.rows) {
		if (q.Tenant == "" || r.Tenant == q.Tenant) && (q.State == "" || r.State == q.State) && (q.Host == "" || r.Host == q.Host) {
			found = append(found, r)
		}
	}
	return found
}

// paged reads all pages of a question.
func paged(t *testing.T, f *job.Fold, q job.Query) []job.Row {
	t.Helper()
	var rows []job.Row
	for range 10_000 {
		p := f.Page(&q)
		rows = append(rows, p.Rows...)
		if p.Next == 0 {
			return rows
		}
		if q.Before != 0 && p.Next >= q.Before {
			t.Fatalf("the page before %d is followed by one before %d", q.Before, p.Next)
		}
		q.Before = p.Next
	}
	t.Fatal("the pages do not end")
	return nil
}

// FuzzFold: any events of any jobs, in any order, with rows that are left out on the way, give what a plain list gives:
// every question, in pages of any size.
func FuzzFold(f *testing.F) {
	f.Add(uint8(3), uint8(2), []byte("the quick brown fox jumps over the lazy dog and again over the dog"))
	f.Add(uint8(200), uint8(1), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 250, 251, 0, 0, 0, 64, 128})
	long := make([]byte, 4000)
	for i := range long {
		long[i] = byte(i * i >> 3)
	}
	f.Add(uint8(20), uint8(7), long)
	f.Fuzz(func(t *testing.T, limit, size uint8, steps []byte) {
		fold, want := job.NewFold(int(limit)), &plain{limit: max(int(limit), 1)}
		if limit%2 == 0 {
			fold.Crowd()
		}
		for i, step := range steps {
			sequence := uint64(i + 1)
			if step >= 250 {
				first := moment(sequence - min(sequence-1, uint64(step-249)*5))
				fold.Forget(first)
				want.forget(first)
				continue
			}
			e := job.StoredEvent{
				Tenant: job.Tenant("acme bolt"[step%2*5 : step%2*5+4]), Job: job.ID(fmt.Sprint(step / 2 % 16)), Kind: job.EventKinds()[int(step/8+byte(i))%8],
				Sequence: sequence, Time: at(sequence), Readable: true,
			}
			e.Brief.Priority, e.Brief.Host = job.Priority(step%10), []string{"", "gpu-1", "gpu-2"}[i%3]
			if e.Kind == job.Waiting {
				e.Brief.Reason = "all_blocked"
			}
			fold.Add(&e)
			want.add(&e)
		}
		if fold.Since() != want.since || fold.Len() != len(want.rows) {
			t.Fatalf("%d rows since %v, want %d since %v", fold.Len(), fold.Since(), len(want.rows), want.since)
		}
		for _, q := range []job.Query{{}, {Tenant: "acme"}, {Tenant: "bolt", State: job.Completed}, {Host: "gpu-1"}, {State: job.Dead, Host: "gpu-2"}} {
			q.Limit, q.Look = int(size), int(size)*2
			if diff := cmp.Diff(want.newest(&q), paged(t, fold, q)); diff != "" {
				t.Fatalf("%+v: %s", q, diff)
			}
			counts := fold.Counts(q.Tenant)
			for _, state := range job.EventKinds() {
				if n := len(want.newest(&job.Query{Tenant: q.Tenant, State: state})); counts.Of(state) != n {
					t.Fatalf("%s has %d that are %s, want %d", q.Tenant, counts.Of(state), state, n)
				}
			}
		}
	})
}
