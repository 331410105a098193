package dashboard

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// jobOf names a job in the fleet.
type jobOf struct {
	tenant job.Tenant
	job    job.ID
}

// running has the last progress and preview of the jobs that run.
type running struct {
	version uint64 // of the newest change
	jobs    map[jobOf]*runningJob
}

type runningJob struct {
	version  uint64 // of its last change
	seen     time.Time
	progress *jetstream.Progress
	body     []byte // JSON of the last change, once a viewer has been sent it; nil: not encoded yet

	preview     []byte
	previewType string
	previews    uint64 // received so far
}

const (
	runningAge   = time.Minute // after which a job of which nothing is received is dropped
	mostRunning  = 4096
	mostPreview  = 256 << 10 // bytes; a larger one is not kept
	mostPreviews = 64 << 20  // bytes of all of them
)

func (s *running) set(l *queue.Live, now time.Time) {
	if !l.Tenant.Valid() || !l.Job.Valid() {
		return
	}
	of := jobOf{l.Tenant, l.Job}
	found := s.jobs[of]
	if found == nil {
		if len(s.jobs) >= mostRunning {
			return
		}
		if s.jobs == nil {
			s.jobs = map[jobOf]*runningJob{}
		}
		found = &runningJob{}
		s.jobs[of] = found
	}
	found.seen = now
	switch {
	case l.Progress != nil:
		found.progress = l.Progress
	case len(l.Preview) <= mostPreview && s.bytes()-len(found.preview)+len(l.Preview) <= mostPreviews && inlinePicture(l.ContentType):
		found.preview, found.previewType = l.Preview, l.ContentType
		found.previews++
	default:
		return
	}
	s.version++
	found.version, found.body = s.version, nil
}

func (s *running) bytes() int {
	sum := 0
	for _, r := range s.jobs {
		sum += len(r.preview)
	}
	return sum
}

func (s *running) remove(of jobOf) { delete(s.jobs, of) }

func (s *running) expire(now time.Time) {
	for of, r := range s.jobs {
		if now.Sub(r.seen) > runningAge {
			delete(s.jobs, of)
		}
	}
}

// changed gives the jobs that have changed after a version, as JSON, as far as the viewer may see them.
func (s *running) changed(after uint64, who Viewer) (jobs [][]byte, version uint64) {
	if after == s.version {
		return nil, s.version
	}
	for of, r := range s.jobs {
		if r.version <= after || !who.sees(of.tenant) {
			continue
		}
		if r.body == nil {
			r.encode(of)
		}
		jobs = append(jobs, r.body)
	}
	return jobs, s.version
}

// encode encodes the last change, once for all viewers.
func (r *runningJob) encode(of jobOf) {
	r.body, _ = json.Marshal(struct { // all of it can be encoded
		Tenant   job.Tenant          `json:"tenant"`
		Job      job.ID              `json:"job"`
		Progress *jetstream.Progress `json:"progress,omitempty"`
		Previews uint64              `json:"previews,omitempty"`
	}{of.tenant, of.job, r.progress, r.previews})
}

// preview gives the last preview of a running job.
func (d *Dashboard) preview(w http.ResponseWriter, r *http.Request) {
	of := jobOf{job.Tenant(r.PathValue("tenant")), job.ID(r.PathValue("job"))}
	if !viewerOf(r).sees(of.tenant) {
		http.NotFound(w, r)
		return
	}
	body, contentType := d.hub.previewOf(of)
	if body == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "private, max-age=60") // the page asks with the number of the preview
	_, _ = w.Write(body)                                   // the viewer may be gone
}

func (h *hub) previewOf(of jobOf) (body []byte, contentType string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if found := h.running.jobs[of]; found != nil {
		return found.preview, found.previewType
	}
	return nil, ""
}
