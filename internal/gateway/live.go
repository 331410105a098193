package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// liveJobs are the newest progress and preview of a tenant's running jobs, for clients that ask between two messages or begin to
// follow a job. Live messages are stored nowhere, so a gateway that has just started has none.
type liveJobs struct {
	mu    sync.Mutex // guards all below
	jobs  map[job.ID]*liveJob
	bytes int // of all previews
}

// liveJob is what a job has sent last.
type liveJob struct {
	progress *jetstream.Progress // replaced by the next one, never changed
	preview  *livePreview        // replaced by the next one, never changed
	at       time.Time
	changed  chan struct{} // closed at the next message
}

type livePreview struct {
	contentType string
	image       []byte
}

const (
	mostLive      = 4096     // jobs of a tenant
	mostLiveBytes = 64 << 20 // of previews of a tenant
	liveAge       = time.Hour
)

func newLiveJobs() *liveJobs { return &liveJobs{jobs: map[job.ID]*liveJob{}} }

// forgetPause is how often jobs that have ended are forgotten.
const forgetPause = 5 * time.Second

// forgetEnded forgets jobs that have ended, until ctx ends.
func (l *liveJobs) forgetEnded(ctx context.Context, rows *Rows) {
	for queue.Pause(ctx, forgetPause) {
		for _, id := range l.ids() {
			if row, known := rows.Row(id); known && row.Ended() {
				l.forget(id)
			}
		}
	}
}

func (l *liveJobs) ids() []job.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.jobs))
}

// follow receives live messages until ctx ends.
func (l *liveJobs) follow(ctx context.Context, q *queue.Queue, tenant job.Tenant, log *slog.Logger) {
	followAgain(ctx, log.With("tenant", tenant), "the progress of a tenant's jobs", func() error {
		return q.FollowLive(ctx, tenant, func(m queue.Live) { l.receive(&m, time.Now()) })
	})
}

func (l *liveJobs) receive(m *queue.Live, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[m.Job]
	if j == nil {
		j = &liveJob{changed: make(chan struct{})}
		l.jobs[m.Job] = j
	}
	j.at = now
	if m.Progress != nil {
		j.progress = m.Progress
	} else if len(m.Preview) > 0 {
		l.bytes += len(m.Preview) - j.previewBytes()
		j.preview = &livePreview{contentType: m.ContentType, image: m.Preview}
	}
	close(j.changed)
	j.changed = make(chan struct{})
	for len(l.jobs) > mostLive || l.bytes > mostLiveBytes {
		l.dropOldest()
	}
}

func (j *liveJob) previewBytes() int {
	if j.preview == nil {
		return 0
	}
	return len(j.preview.image)
}

// of gives what a job has sent last, and a channel that is closed at its next message.
func (l *liveJobs) of(id job.ID) (*jetstream.Progress, *livePreview, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[id]
	if j == nil {
		j = &liveJob{changed: make(chan struct{}), at: time.Now()}
		l.jobs[id] = j
	}
	return j.progress, j.preview, j.changed
}

// progress is the newest progress of a job; nil: none was received.
func (l *liveJobs) progress(id job.ID) *jetstream.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs[id]; j != nil {
		return j.progress
	}
	return nil
}

// forget removes a job that has ended.
func (l *liveJobs) forget(id job.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(id)
}

func (l *liveJobs) drop(id job.ID) {
	if j := l.jobs[id]; j != nil {
		l.bytes -= j.previewBytes()
		delete(l.jobs, id)
	}
}

// dropOldest removes the jobs without a message for an hour, and at least the one without a message for longest. l.mu must be held.
func (l *liveJobs) dropOldest() {
	var oldest job.ID
	var last time.Time
	for id, j := range l.jobs {
		if oldest == "" || j.at.Before(last) {
			oldest, last = id, j.at
		}
	}
	for id, j := range l.jobs {
		if id == oldest || time.Since(j.at) > liveAge {
			l.drop(id)
		}
	}
}
