package demo

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// observation is one stored event. Of job, block, unblocked and host exactly one is set.
type observation struct {
	sequence  uint64
	time      time.Time
	what      string // the last token of the subject
	source    string // who wrote it
	job       *job.Event
	block     *route.Block
	unblocked *queue.Unblocked
	host      *queue.HostEvent
}

// observe reads an event; false when it is of another form.
func observe(note *jetstream.Note) (*observation, bool) {
	s := &observation{
		sequence: note.Sequence, time: note.Time, what: note.Subject[strings.LastIndexByte(note.Subject, '.')+1:],
		source: note.Header.Get("ce-source"),
	}
	room := strings.TrimPrefix(note.Subject, "comfy.events.")
	var err error
	switch {
	case strings.HasPrefix(room, "jobs."):
		var e job.Event
		e, err = job.DecodeEvent(job.EventKind(s.what), note.Body)
		s.job = &e
	case s.what == "blocked":
		s.block = &route.Block{}
		err = json.Unmarshal(note.Body, s.block)
	case s.what == "unblocked":
		s.unblocked = &queue.Unblocked{}
		err = json.Unmarshal(note.Body, s.unblocked)
	case !strings.HasPrefix(room, "hosts."):
		return s, false
	default:
		s.host = &queue.HostEvent{}
		err = json.Unmarshal(note.Body, s.host)
	}
	return s, err == nil
}

// record is all that was observed, in the order of the stream. What the demo claims is read from it and from nothing
// else.
type record struct {
	started time.Time
	seen    []*observation
}

func (r *record) all(fits func(*observation) bool) []*observation {
	var found []*observation
	for _, s := range r.seen {
		if fits(s) {
			found = append(found, s)
		}
	}
	return found
}

// jobs are the events of one kind of one job.
func (r *record) jobs(id job.ID, kind job.EventKind) []*observation {
	return r.all(func(s *observation) bool { return s.job != nil && s.job.Job == id && s.job.EventKind == kind })
}

// end is how a job ended, nil while it has not.
func (r *record) end(id job.ID) *job.Event {
	for _, s := range r.seen {
		if s.job != nil && s.job.Job == id && s.job.EventKind.Terminal() {
			return s.job
		}
	}
	return nil
}

// completedOn is the host on which a job completed, empty when it did not.
func (r *record) completedOn(id job.ID) string {
	if e := r.end(id); e != nil && e.EventKind == job.Completed {
		return e.Host
	}
	return ""
}

// block is the last block of a pair and its end; either is nil when it was not seen.
func (r *record) block(host string, hash workflow.Hash) (blocked, unblocked *observation) {
	for _, s := range r.seen {
		// Of a block that is made to hold for more jobs, the first event counts.
		if (blocked == nil || unblocked != nil) && s.block != nil && string(s.block.Host) == host && s.block.Hash == hash {
			blocked, unblocked = s, nil
		}
		if unblocked == nil && blocked != nil && s.unblocked != nil && s.unblocked.Host == host && s.unblocked.Hash == hash {
			unblocked = s
		}
	}
	return blocked, unblocked
}

// endOf is the end of the block that an observation announces, nil when it was not seen.
func (r *record) endOf(blocked *observation) *observation {
	for _, s := range r.seen {
		if s.unblocked != nil && s.sequence > blocked.sequence && s.unblocked.Host == string(blocked.block.Host) && s.unblocked.Hash == blocked.block.Hash {
			return s
		}
	}
	return nil
}

// startedOn are the starts of a workflow on a host between two observations.
func (r *record) startedOn(host string, hash workflow.Hash, after, before *observation) []*observation {
	return r.all(func(s *observation) bool {
		return s.job != nil && s.job.EventKind == job.Started && s.job.Host == host && s.job.Hash == hash && within(s, after, before)
	})
}

// within says whether s lies between two observations; without the second, between the first and now.
func within(s, after, before *observation) bool {
	return after != nil && s.sequence > after.sequence && (before == nil || s.sequence < before.sequence)
}
