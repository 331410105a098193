package jetstream

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// decodeState reads a state as encoding/json does. What our own agents write is read without reflection, all else by
// encoding/json.
func decodeState(body []byte) (HostState, error) {
	var s HostState
	r := plainReader{src: string(body)}
	r.state(&s)
	if r.whole() {
		return s, nil
	}
	var odd HostState // of its own, since encoding/json puts it on the heap
	return odd, json.Unmarshal(body, &odd)
}

func decodeReply(body []byte) (Reply, error) {
	var a Reply
	r := plainReader{src: string(body)}
	r.object(func(name string) {
		switch name {
		case "answer":
			a.Answer = Answer(r.text())
		case "reason":
			a.Reason = r.text()
		case "state":
			r.state(&a.State)
		default:
			r.odd = true
		}
	})
	if r.whole() {
		return a, nil
	}
	var odd Reply
	return odd, json.Unmarshal(body, &odd)
}

func (r *plainReader) state(s *HostState) {
	r.object(func(name string) {
		switch name {
		case "host":
			s.Host = r.text()
		case "instance":
			s.Instance = r.text()
		case "serial":
			s.Serial = uint64(r.count())
		case "state":
			s.State = Availability(r.text())
		case "reason":
			s.Reason = r.text()
		case "slots":
			s.Slots = int(r.count())
		case "prefetch":
			s.Prefetch = int(r.count())
		case "running":
			r.array(s.Running != nil, func() { s.Running = append(s.Running, r.running()) })
		case "foreign":
			s.Foreign = int(r.count())
		case "ended":
			r.odd = r.odd || s.Ended != nil
			s.Ended = r.ended()
		case "brief":
			s.Brief = r.yes()
		case "time":
			s.Time = r.time()
		default: // a full state is told every few seconds
			r.odd = true
		}
	})
}

func (r *plainReader) running() RunningJob {
	var j RunningJob
	r.object(func(name string) {
		switch name {
		case "tenant":
			j.Tenant = job.Tenant(r.text())
		case "job":
			j.Job = job.ID(r.text())
		case "priority":
			j.Priority = job.Priority(r.count())
		case "hash":
			j.Hash = workflow.Hash(r.text())
		case "attempt":
			j.Attempt = int(r.count())
		case "since":
			j.Since = r.time()
		default:
			r.odd = true
		}
	})
	return j
}

// ended gives values of their own: they are kept for longer than the state that they came with.
func (r *plainReader) ended() *EndedJob {
	e := &EndedJob{}
	r.object(func(name string) {
		switch name {
		case "tenant":
			e.Tenant = job.Tenant(strings.Clone(r.text()))
		case "job":
			e.Job = job.ID(r.text())
		case "priority":
			e.Priority = job.Priority(r.count())
		case "hash":
			e.Hash = workflow.Hash(strings.Clone(r.text()))
		case "size":
			e.Size = r.count()
		case "ran_for":
			e.RanFor = r.duration()
		case "success":
			e.Success = r.yes()
		case "kind":
			e.Kind = failure.Kind(strings.Clone(r.text()))
		default:
			r.odd = true
		}
	})
	return e
}

// plainReader reads JSON as our own encoders write it: no escapes, no nulls, no fractions, nothing twice that holds
// more than one value. Whatever else it meets makes it odd; then what it has read is void.
type plainReader struct {
	src string
	at  int
	odd bool
}

// whole reports whether all has been read and none of it was odd.
func (r *plainReader) whole() bool {
	r.space()
	return !r.odd && r.at == len(r.src)
}

func (r *plainReader) space() {
	for r.at < len(r.src) && (r.src[r.at] == ' ' || r.src[r.at] == '\n' || r.src[r.at] == '\r' || r.src[r.at] == '\t') {
		r.at++
	}
}

// next takes c when it comes next.
func (r *plainReader) next(c byte) bool {
	r.space()
	if r.odd || r.at >= len(r.src) || r.src[r.at] != c {
		return false
	}
	r.at++
	return true
}

func (r *plainReader) must(c byte) {
	if !r.next(c) {
		r.odd = true
	}
}

// object calls field for each name; it must read the value.
func (r *plainReader) object(field func(name string)) {
	r.must('{')
	if r.next('}') {
		return
	}
	for !r.odd {
		name := r.text()
		r.must(':')
		if r.odd {
			return
		}
		field(name)
		if !r.next(',') {
			r.must('}')
			return
		}
	}
}

// array calls value for each value; it must read it. An empty one and a repeated one are odd.
func (r *plainReader) array(again bool, value func()) {
	r.must('[')
	r.odd = r.odd || again
	for !r.odd {
		value()
		if !r.next(',') {
			r.must(']')
			return
		}
	}
}

func (r *plainReader) text() string {
	r.must('"')
	ascii := true
	for i := r.at; i < len(r.src); i++ {
		switch c := r.src[i]; {
		case c == '"':
			text := r.src[r.at:i]
			r.at = i + 1
			r.odd = r.odd || !ascii && !utf8.ValidString(text) // as of "1.5µs"; encoding/json replaces what is invalid
			return text
		case c < ' ' || c == '\\':
			r.odd = true
			return ""
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	r.odd = true
	return ""
}

// count reads a number of at most 18 digits that is not negative.
func (r *plainReader) count() int64 {
	r.space()
	from, n := r.at, int64(0)
	for r.at < len(r.src) && r.src[r.at] >= '0' && r.src[r.at] <= '9' && r.at-from < 19 {
		n = n*10 + int64(r.src[r.at]-'0')
		r.at++
	}
	digits := r.at - from
	if digits == 0 || digits > 18 || digits > 1 && r.src[from] == '0' {
		r.odd = true
		return 0
	}
	return n
}

func (r *plainReader) yes() bool {
	r.space()
	switch rest := r.src[r.at:]; {
	case strings.HasPrefix(rest, "true"):
		r.at += len("true")
		return true
	case strings.HasPrefix(rest, "false"):
		r.at += len("false")
		return false
	}
	r.odd = true
	return false
}

func (r *plainReader) time() (t time.Time) {
	if t.UnmarshalText([]byte(r.text())) != nil {
		r.odd = true
	}
	return t
}

func (r *plainReader) duration() job.Duration {
	d, err := time.ParseDuration(r.text())
	r.odd = r.odd || err != nil || d < 0
	return job.Duration(d)
}
