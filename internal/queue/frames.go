package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Frame is one message of ComfyUI's websocket about a job's run, as ComfyUI sent it. The messages that end a run are never among
// them: the job's events say how it ended.
type Frame struct {
	Job     job.ID
	Attempt int
	Number  uint64 // of the attempt's messages, from 1; a missing number is a message that was lost or left out
	Binary  bool
	Data    []byte // belongs to the receiver
}

const (
	// frameHeaders is how many bytes of a NATS message the headers of a frame may take.
	frameHeaders = 512
	// largestFrame is the most bytes of a frame that is sent and received.
	largestFrame = 64 << 20
	// framesPending bounds what FollowFrames keeps in memory for a tell that is slow, and again for frames of which parts are missing.
	framesPending = 256 << 20
	// mostPartial is how many frames of which parts are missing are kept.
	mostPartial = 1024
)

// ErrFrameTooLarge: a frame has more bytes than FollowFrames takes.
var ErrFrameTooLarge = fmt.Errorf("a message of ComfyUI has more than %d bytes", largestFrame)

// PublishFrame sends a frame to its subscribers, in several messages when it does not fit into one of NATS. It is not stored.
func (q *Queue) PublishFrame(tenant job.Tenant, f *Frame) error {
	if len(f.Data) > largestFrame {
		return fmt.Errorf("publish frame %d of job %s: %w", f.Number, f.Job, ErrFrameTooLarge)
	}
	kind := names.TextFrame
	if f.Binary {
		kind = names.BinaryFrame
	}
	size := max(1, int(q.nc.MaxPayload())-frameHeaders)
	parts := max(1, (len(f.Data)+size-1)/size)
	for n := range parts {
		msg := &nats.Msg{Subject: q.progressSubject(tenant, f.Job, "frame"), Data: f.Data[n*size : min(len(f.Data), (n+1)*size)], Header: nats.Header{
			names.AttemptHeader: {strconv.Itoa(f.Attempt)}, names.FrameHeader: {strconv.FormatUint(f.Number, 10)}, names.FrameKindHeader: {kind},
		}}
		if parts > 1 {
			msg.Header[names.FramePartHeader] = []string{strconv.Itoa(n+1) + "/" + strconv.Itoa(parts)}
		}
		if err := q.nc.PublishMsg(msg); err != nil {
			return wrap(err, "publish frame %d of job %s", f.Number, f.Job)
		}
	}
	return nil
}

// FollowFrames calls tell for every frame of a tenant's jobs that ask for them (live: "frames"), those of one job in their order, until
// ctx ends. While tell works, up to 256 MiB wait in memory; beyond that frames are lost, which their numbers show.
func (q *Queue) FollowFrames(ctx context.Context, tenant job.Tenant, tell func(Frame)) error {
	joined := joiner{jobs: map[job.ID]*partial{}, room: framesPending}
	sub, err := q.listen(names.FramesSubject(tenant), func(msg *nats.Msg) {
		if f, whole := joined.take(msg); whole {
			tell(f)
		}
	})
	if err != nil {
		return err
	}
	if err := sub.SetPendingLimits(-1, framesPending); err != nil {
		return wrap(err, "follow the frames of tenant %s", tenant)
	}
	return endWith(ctx, sub)
}

// joiner joins frames that were sent in parts. Of each job it keeps one that is not complete. An agent that dies may leave a frame
// that is never completed: when there is no more room, the frames whose newest part is the oldest are dropped.
type joiner struct {
	jobs  map[job.ID]*partial
	size  int    // of all that it keeps
	room  int    // the most of size
	parts uint64 // that were taken so far
}

// partial is a frame of which the first parts have come.
type partial struct {
	Frame
	got, of int
	newest  uint64 // number of its newest part among all that were taken
}

// take gives the frame that a message is or completes. When a part comes out of order, its frame is dropped.
func (j *joiner) take(msg *nats.Msg) (Frame, bool) {
	f, part, of, ok := decodeFrame(msg)
	if !ok {
		return Frame{}, false
	}
	p := j.jobs[f.Job]
	follows := p != nil && p.Attempt == f.Attempt && p.Number == f.Number && p.of == of && p.got == part-1 && p.Binary == f.Binary
	if p != nil && !follows {
		j.drop(p)
	}
	if of == 1 {
		return f, true
	}
	switch {
	case part == 1:
		p = &partial{Frame: f, of: of}
		p.Data = nil
		j.jobs[f.Job] = p
	case !follows:
		return Frame{}, false
	}
	if len(p.Data)+len(f.Data) > largestFrame {
		j.drop(p)
		return Frame{}, false
	}
	j.parts++
	p.newest = j.parts
	j.makeRoom(p, len(f.Data))
	p.Data, p.got, j.size = append(p.Data, f.Data...), part, j.size+len(f.Data)
	if part < of {
		return Frame{}, false
	}
	j.drop(p)
	return p.Frame, true
}

// makeRoom drops incomplete frames other than p until there is room for so many more bytes of p.
func (j *joiner) makeRoom(p *partial, size int) {
	for len(j.jobs) > 1 && (j.size+size > j.room || len(j.jobs) > mostPartial) {
		oldest := p
		for _, other := range j.jobs {
			if other.newest < oldest.newest {
				oldest = other
			}
		}
		j.drop(oldest)
	}
}

func (j *joiner) drop(p *partial) {
	delete(j.jobs, p.Job)
	j.size -= len(p.Data)
}

// decodeFrame reads one message, which is part of of that make a frame; false when it is none.
func decodeFrame(msg *nats.Msg) (f Frame, part, of int, ok bool) {
	_, id := names.JobOfLive(msg.Subject)
	f = Frame{Job: id, Binary: msg.Header.Get(names.FrameKindHeader) == names.BinaryFrame, Data: msg.Data}
	var err error
	if f.Attempt, err = strconv.Atoi(msg.Header.Get(names.AttemptHeader)); err != nil || f.Attempt < 1 {
		return f, 0, 0, false
	}
	if f.Number, err = strconv.ParseUint(msg.Header.Get(names.FrameHeader), 10, 64); err != nil || !f.Job.Valid() {
		return f, 0, 0, false
	}
	parts := msg.Header.Get(names.FramePartHeader)
	if parts == "" {
		return f, 1, 1, true
	}
	before, after, _ := strings.Cut(parts, "/")
	part, err = strconv.Atoi(before)
	if err == nil {
		of, err = strconv.Atoi(after)
	}
	return f, part, of, err == nil && 1 <= part && part <= of
}
