package job_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// fill folds three events of each of so many jobs: 20 tenants, 100 hosts, as many workflows as asked for.
func fill(f *job.Fold, jobs, workflows int) {
	hashes := make([]workflow.Hash, workflows)
	for i := range hashes {
		sum := sha256.Sum256(fmt.Append(nil, i))
		hashes[i] = workflow.Hash(hex.EncodeToString(sum[:]))
	}
	sequence := f.Last().Sequence
	for n := range jobs {
		e := job.StoredEvent{Tenant: job.Tenant(fmt.Sprintf("tenant-%d", n%20)), Job: job.ID(fmt.Sprintf("abcdefghijklmnop%010d", n)), Readable: true}
		e.Brief = job.Brief{Priority: 5, Hash: hashes[n%workflows]}
		for step, kind := range []job.EventKind{job.Queued, job.Started, job.Completed} {
			if step == 1 {
				e.Brief.Host, e.Brief.Attempt = fmt.Sprintf("gpu-%d", n%100), 1
			}
			if step == 2 && n%50 == 0 {
				kind, e.Brief.Kind, e.Brief.Reason = job.Dead, failure.Timeout, "attempts_exhausted"
			}
			sequence++
			e.Kind, e.Sequence, e.Time = kind, sequence, at(sequence)
			f.Add(&e)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// perRow is what a row of a full fold costs.
func perRow(rows, workflows int) (float64, *job.Fold) {
	before := heap()
	f := job.NewFold(rows)
	fill(f, rows, workflows)
	return float64(heap()-before) / float64(rows), f
}

func TestARowCostsNoMoreThanWhatWasPlannedForIt(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const rows = 20_000
	for _, c := range []struct {
		workflows int
		most      float64
	}{{500, 250}, {rows, 510}} { // the second: no two jobs have the same workflow
		bytes, f := perRow(rows, c.workflows)
		bytes -= float64(100*job.AttemptsKept) * float64(unsafe.Sizeof(job.HostAttempt{})) / rows // what is kept of 100 hosts, and not of jobs
		t.Logf("%d workflows: %.0f bytes a row", c.workflows, bytes)
		if bytes > c.most || f.Len() != rows {
			t.Errorf("%d workflows: %.0f bytes for each of %d rows, and %.0f were planned", c.workflows, bytes, f.Len(), c.most)
		}
	}
}

const million = 1_000_000

func BenchmarkFoldAdd(b *testing.B) {
	bytes, f := perRow(million, 500)
	e := job.StoredEvent{Tenant: "acme", Kind: job.Queued, Sequence: f.Last().Sequence, Readable: true, Brief: job.Brief{Priority: 5}}
	for n := 0; b.Loop(); n++ {
		e.Job, e.Sequence = job.ID(fmt.Sprintf("new-%d", n)), e.Sequence+1
		f.Add(&e)
	}
	b.ReportMetric(bytes, "bytes/row")
}

// BenchmarkFoldPage asks a full fold: for the newest, for those in its middle, and for what matches nothing in 50 000 places.
func BenchmarkFoldPage(b *testing.B) {
	f := job.NewFold(million)
	fill(f, million, 500)
	for name, q := range map[string]job.Query{
		"Newest": {}, "Middle": {Before: f.Last().Sequence / 2}, "OfATenant": {Tenant: "tenant-7"},
		"OfAHostAndTenant": {Tenant: "tenant-7", Host: "gpu-7"}, "Nothing": {Host: "gpu-7", Tenant: "tenant-8"}, "NoSuchID": {Job: "zzz"},
	} {
		b.Run(name, func(b *testing.B) {
			q.Limit, q.Look = 500, 50_000
			for b.Loop() {
				f.Page(&q)
			}
		})
	}
}
