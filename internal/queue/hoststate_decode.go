package queue

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// decodeState decodes a state as encoding/json does. JSON in the form that agents write is read without reflection, all other by
// encoding/json. AppendJSON says what that saves.
func decodeState(body []byte) (HostState, error) {
	var s HostState
	r := plainReader{src: string(body)}
	r.state(&s)
	if r.whole() {
		return s, nil
	}
	var odd HostState // a second variable, since encoding/json moves it to the heap
	err := json.Unmarshal(body, &odd)
	return odd, err
}

func decodeReply(body []byte) (Reply, error) {
	var a Reply
	r := plainReader{src: string(body)}
	a.Answer = Answer(r.text(`{"answer":"`))
	a.Reason = r.optional(`,"reason":"`)
	r.must(`,"state":`)
	r.state(&a.State)
	r.must(`}`)
	if r.whole() {
		return a, a.check()
	}
	var odd Reply
	if err := json.Unmarshal(body, &odd); err != nil {
		return odd, fmt.Errorf("decode the reply: %w", err)
	}
	return odd, odd.check()
}

// state reads the fields of a brief state. A full state, which an agent sends every few seconds, is left to encoding/json.
func (r *plainReader) state(s *HostState) {
	s.Host = r.text(`{"host":"`)
	s.Instance = r.text(`,"instance":"`)
	s.Serial = uint64(r.count(`,"serial":`))
	s.State = Availability(r.text(`,"state":"`))
	s.Reason = r.optional(`,"reason":"`)
	s.Slots = int(r.count(`,"slots":`))
	s.Prefetch = int(r.count(`,"prefetch":`))
	for r.next(opening(len(s.Running), `,"running":[`)) {
		s.Running = append(s.Running, r.running())
	}
	if len(s.Running) > 0 {
		r.must(`]`)
	}
	s.Foreign = int(r.optionalCount(`,"foreign":`))
	if r.next(`,"ended":`) {
		s.Ended = r.ended()
	}
	s.Brief = r.next(`,"brief":true`)
	s.Time = r.time(`,"time":"`)
	r.must(`}`)
}

func (r *plainReader) running() RunningJob {
	j := RunningJob{
		Tenant: job.Tenant(r.text(`{"tenant":"`)), Job: job.ID(r.text(`,"job":"`)), Priority: job.Priority(r.count(`,"priority":`)),
		Hash: workflow.Hash(r.text(`,"hash":"`)), Attempt: int(r.count(`,"attempt":`)), Since: r.time(`,"since":"`),
	}
	r.must(`}`)
	return j
}

// ended copies its texts, since they are kept for longer than the message that they are part of.
func (r *plainReader) ended() *EndedJob {
	e := &EndedJob{
		Tenant: job.Tenant(strings.Clone(r.text(`{"tenant":"`))), Job: job.ID(r.text(`,"job":"`)),
		Priority: job.Priority(r.count(`,"priority":`)), Hash: workflow.Hash(strings.Clone(r.text(`,"hash":"`))),
		Size: r.optionalCount(`,"size":`), RanFor: r.duration(`,"ran_for":"`),
	}
	e.Success = r.next(`,"success":true`)
	if !e.Success {
		r.must(`,"success":false`)
	}
	e.Kind = failure.Kind(strings.Clone(r.optional(`,"kind":"`)))
	r.must(`}`)
	return e
}

// plainReader reads JSON exactly in the form that AppendJSON writes: the same names in the same order, no spaces, no escapes. Any
// other input sets odd, and then the values that were read must not be used. Each method takes the text before its value, with the
// quotation mark.
type plainReader struct {
	src string
	at  int
	odd bool
}

// whole reports whether the whole input was read and had the expected form.
func (r *plainReader) whole() bool { return !r.odd && r.at == len(r.src) }

// next reads a text when it comes next, and reports whether it did.
func (r *plainReader) next(what string) bool {
	if r.odd || !strings.HasPrefix(r.src[r.at:], what) {
		return false
	}
	r.at += len(what)
	return true
}

func (r *plainReader) must(what string) {
	if !r.next(what) {
		r.odd = true
	}
}

func (r *plainReader) text(before string) string {
	r.must(before)
	return r.rest()
}

func (r *plainReader) optional(before string) string {
	if !r.next(before) {
		return ""
	}
	return r.rest()
}

// rest reads the rest of a string, after its first quotation mark.
func (r *plainReader) rest() string {
	end := strings.IndexByte(r.src[r.at:], '"')
	if r.odd || end < 0 {
		r.odd = true
		return ""
	}
	text := r.src[r.at : r.at+end]
	r.at += end + 1
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			r.odd = needsDecoder(text)
			break
		}
	}
	return text
}

// needsDecoder reports whether a text has escapes, or bytes that encoding/json would replace. Valid characters beyond ASCII, as in
// "1.5µs", are allowed.
func needsDecoder(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == '\\' })
}

// count reads a number of at most 18 digits that is not negative.
func (r *plainReader) count(before string) int64 {
	r.must(before)
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

func (r *plainReader) optionalCount(before string) int64 {
	if !strings.HasPrefix(r.src[r.at:], before) {
		return 0
	}
	return r.count(before)
}

func (r *plainReader) time(before string) (t time.Time) {
	if t.UnmarshalText([]byte(r.text(before))) != nil {
		r.odd = true
	}
	return t
}

func (r *plainReader) duration(before string) job.Duration {
	d, err := time.ParseDuration(r.text(before))
	r.odd = r.odd || err != nil || d < 0
	return job.Duration(d)
}
