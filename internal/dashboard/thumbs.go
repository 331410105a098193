package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// thumb is the small picture of a completed job.
type thumb struct {
	tenant job.Tenant
	object string // empty when the job has none
}

// smallOf is the first small picture among outputs: one that the agent has made, or a picture that is small itself. Those that are no
// results of the job count when there is no other.
func smallOf(outputs []job.Output) (object string) {
	for i := range outputs {
		o := &outputs[i]
		small := o.Thumb
		if small == "" && o.Size <= smallPicture && inlinePicture(o.ContentType) {
			small = o.Object
		}
		if small != "" && o.Type != "temp" {
			return small
		}
		if object == "" {
			object = small
		}
	}
	return object
}

const (
	smallPicture = 64 << 10 // bytes of a picture that needs no smaller one
	thumbsKept   = 20_000
	thumbsMost   = 200 // in one answer
)

// thumbsOf gives the small pictures of jobs whose last events have the given sequences, by these. Jobs without one, and those that the
// viewer may not see, are left out.
func (d *Dashboard) thumbsOf(ctx context.Context, who Viewer, request map[string]json.RawMessage) (json.RawMessage, error) {
	var sequences []uint64
	if err := json.Unmarshal(request["sequences"], &sequences); err != nil || len(sequences) > thumbsMost {
		return nil, &jetstream.BadRequest{Message: fmt.Sprintf("sequences must be a list of at most %d numbers", thumbsMost)}
	}
	found := make([]thumb, len(sequences))
	var readers sync.WaitGroup
	slots := make(chan struct{}, picturesAt)
	for i, sequence := range sequences {
		slots <- struct{}{}
		readers.Go(func() {
			defer func() { <-slots }()
			found[i] = d.thumbAt(ctx, sequence)
		})
	}
	readers.Wait()
	objects := map[uint64]string{}
	for i, one := range found {
		if one.object != "" && who.sees(one.tenant) {
			objects[sequences[i]] = one.object
		}
	}
	return json.Marshal(map[string]any{"thumbs": objects})
}

// thumbAt is that of the job whose completed event has a sequence.
func (d *Dashboard) thumbAt(ctx context.Context, sequence uint64) thumb {
	one, known := d.thumbs.get(sequence)
	if known {
		return one
	}
	note, there, err := d.q.EventAt(ctx, sequence)
	if err != nil {
		return thumb{} // it is read again for the next answer
	}
	if e, ours := note.Event(); there && ours && e.EventKind == job.Completed {
		one.tenant, one.object = e.Tenant, smallOf(e.Outputs)
	}
	d.thumbs.put(sequence, one)
	return one
}
