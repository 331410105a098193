package dashboard

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// picturesCall lists completed jobs with their files, for which a list of jobs has no room.
const picturesCall = "pictures"

// picturesAnswer is the answer to it.
type picturesAnswer struct {
	Events []json.RawMessage `json:"events"`         // as in the stream, newest first
	Next   uint64            `json:"next,omitempty"` // to be sent as before; 0 at the end
}

const (
	mostPictures = 100
	picturesAt   = 8 // events read at a time
)

// pictures lists the newest completed jobs by the call jobs, and reads the event of each, in which its files are named.
func (d *Dashboard) pictures(ctx context.Context, who Viewer, request map[string]json.RawMessage) (json.RawMessage, error) {
	limit := mostPictures
	if raw := request["limit"]; raw != nil {
		if err := json.Unmarshal(raw, &limit); err != nil || limit < 1 || limit > mostPictures {
			return nil, &jetstream.BadRequest{Message: "limit is no number from 1 to 100"}
		}
	}
	asked := map[string]any{"state": job.Completed, "limit": limit}
	for _, field := range []string{"tenant", "before", "host", "hash"} {
		if raw := request[field]; raw != nil {
			asked[field] = raw
		}
	}
	body, err := d.ask(ctx, who, "jobs", asked)
	if err != nil {
		return nil, err
	}
	var page jetstream.JobsAnswer
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, err
	}
	answer := picturesAnswer{Events: d.eventsOf(ctx, page.Jobs), Next: page.Next}
	return json.Marshal(answer)
}

// eventsOf reads the last events of jobs, in their order. One that cannot be read is left out.
func (d *Dashboard) eventsOf(ctx context.Context, jobs []jetstream.JobRow) []json.RawMessage {
	bodies := make([][]byte, len(jobs))
	var readers sync.WaitGroup
	slots := make(chan struct{}, picturesAt)
	for i := range jobs {
		slots <- struct{}{}
		readers.Go(func() {
			defer func() { <-slots }()
			note, there, err := d.q.EventAt(ctx, jobs[i].Last.Sequence)
			if err == nil && there {
				if r := rowOf(&note); r.tenant == jobs[i].Tenant && r.job == jobs[i].Job {
					r.encode()
					bodies[i] = r.body
				}
			}
		})
	}
	readers.Wait()
	events := make([]json.RawMessage, 0, len(jobs))
	for _, body := range bodies {
		if body != nil {
			events = append(events, body)
		}
	}
	return events
}
