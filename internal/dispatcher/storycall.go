package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) tenantJob(ctx context.Context, tenant job.Tenant, r jetstream.StatusRequest) (jetstream.JobStory, error) {
	r.Tenant = tenant
	return d.apiJob(ctx, r)
}

func (d *Dispatcher) apiJob(ctx context.Context, r jetstream.StatusRequest) (story jetstream.JobStory, err error) {
	chain, err := d.chainOf(ctx, r)
	if err != nil {
		return story, err
	}
	if story.JobStatus, err = d.statusOf(ctx, chain); err != nil {
		return story, err
	}
	for i := range chain {
		if e := &chain[i]; e.EventKind == job.Queued {
			story.Bytes, story.Title = e.Bytes, e.Title
		}
		if chain[i].Name != "" {
			story.Name = chain[i].Name
		}
	}
	first := &chain[0]
	story.Trace = job.TraceID(first.Tenant, first.Job, d.q.Created(), first.Traceparent)
	if story.Tries, err = d.q.TriesOf(ctx, r.Tenant, r.Job, first.ChainSequence); err != nil {
		return story, err
	}
	body, why, err := d.bodyOf(ctx, chain)
	if err != nil {
		return story, err
	}
	story.Body, story.NoBody = bodyThatFits(body, why, d.roomBeside(&story))
	return story, nil
}

// roomBeside is how many bytes an answer has left for the body of a job.
func (d *Dispatcher) roomBeside(story *jetstream.JobStory) int {
	rest, err := json.Marshal(story)
	if err != nil {
		return 0
	}
	const space = 4 << 10 // for headers
	return 2*d.q.AnswerBytes() - len(rest) - space
}

// bodyThatFits leaves out a body that an answer cannot hold.
func bodyThatFits(body []byte, why string, room int) (json.RawMessage, string) {
	switch {
	case why != "":
		return nil, why
	case len(body) > room:
		return nil, fmt.Sprintf("it has %d bytes, and the answer has room for %d more", len(body), max(room, 0))
	case !json.Valid(body):
		return nil, "it has numbers that JSON lacks, such as NaN, or is no JSON"
	}
	return body, ""
}

// bodyOf is the job as it was published, without its extra_data, or why there is none: one that has not ended is in COMFY_JOBS, a
// dead one in its letter, and others are not kept.
func (d *Dispatcher) bodyOf(ctx context.Context, chain []queue.Link) (body []byte, why string, err error) {
	last := &chain[len(chain)-1]
	if last.EventKind == job.Dead {
		return d.bodyOfLetter(ctx, last)
	}
	sequence := uint64(0)
	for i := range chain {
		if chain[i].EventKind == job.Queued {
			sequence = chain[i].Sequence
		}
	}
	if last.EventKind.Terminal() || sequence == 0 {
		return nil, "the job has ended, and its body is not kept", nil
	}
	message, err := d.q.Stored(ctx, sequence)
	if err != nil {
		return nil, "it is not in " + names.JobsStream + ": " + err.Error(), nil //nolint:nilerr // it may have ended meanwhile: the rest of the answer is given
	}
	parsed, err := job.Parse(message)
	if err != nil || parsed.ID != last.Job || parsed.Tenant != last.Tenant {
		return nil, "it is not in " + names.JobsStream + " any more", nil //nolint:nilerr // the place is another job's
	}
	body, _ = job.WithoutExtraData(message.Body)
	return body, "", nil
}

const lettersBack = time.Minute // by how much a letter may have been stored before its event, by clocks that differ

// bodyOfLetter finds the letter of a dead job, which was stored at about the time of its last event.
func (d *Dispatcher) bodyOfLetter(ctx context.Context, last *queue.Link) (body []byte, why string, err error) {
	leave, err := d.answers.enterLetters(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	why = "its dead letter is not kept any more"
	looked := 0
	err = d.q.DeadLettersAfter(ctx, last.Tenant, last.Time.Add(-lettersBack), 0, func(l queue.DeadLetter) bool {
		if looked++; l.Job != last.Job {
			return looked < lettersLooked
		}
		if body, why = l.Body, ""; l.Truncated() {
			body, why = nil, "its dead letter has only the beginning of it"
		}
		return false
	})
	return body, why, err
}

// lettersLooked is how many letters are read to find one.
const lettersLooked = 2000
