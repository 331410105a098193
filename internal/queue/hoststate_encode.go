package queue

import (
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// AppendJSON appends the state in JSON, the same bytes as encoding/json. States are sent at every change of a slot and read by every
// dispatcher, so they are written and read without reflection: with encoding/json for both, a job of the bench takes 17 % more CPU (see "Hand-written against plain" in docs/performance.md).
func (s *HostState) AppendJSON(b []byte) []byte {
	b = job.AppendText(append(b, `{"host":`...), s.Host)
	b = job.AppendText(append(b, `,"instance":`...), s.Instance)
	b = strconv.AppendUint(append(b, `,"serial":`...), s.Serial, 10)
	b = job.AppendText(append(b, `,"state":`...), string(s.State))
	b = appendText(b, `,"reason":`, s.Reason)
	b = appendText(b, `,"cause":`, string(s.Cause))
	if s.Trial {
		b = append(b, `,"trial":true`...)
	}
	if s.Blame != nil {
		b = s.Blame.append(append(b, `,"blame":`...))
	}
	if s.ClockOff != 0 {
		b = appendDuration(append(b, `,"clock_off":`...), job.Duration(s.ClockOff))
	}
	b = strconv.AppendInt(append(b, `,"slots":`...), int64(s.Slots), 10)
	b = strconv.AppendInt(append(b, `,"prefetch":`...), int64(s.Prefetch), 10)
	for i := range s.Running {
		b = s.Running[i].append(append(b, opening(i, `,"running":[`)...))
	}
	b = closing(b, len(s.Running))
	b = appendInt(b, `,"foreign":`, int64(s.Foreign))
	b = appendTexts(b, `,"labels":[`, s.Labels)
	b = appendTexts(b, `,"recent":[`, s.Recent)
	b = appendInt(b, `,"memory":`, s.Memory)
	b = appendInt(b, `,"memory_used":`, s.Used)
	b = appendText(b, `,"version":`, s.Version)
	b = appendText(b, `,"agent_version":`, s.Agent)
	b = appendText(b, `,"device":`, s.Device)
	b = appendText(b, `,"url":`, s.URL)
	if s.Ended != nil {
		b = s.Ended.append(append(b, `,"ended":`...))
	}
	if s.Brief {
		b = append(b, `,"brief":true`...)
	}
	return append(job.AppendTime(append(b, `,"time":`...), s.Time), '}')
}

func (l *Blame) append(b []byte) []byte {
	b = job.AppendText(append(b, `{"tenant":`...), string(l.Tenant))
	b = job.AppendText(append(b, `,"job":`...), string(l.Job))
	return append(job.AppendText(append(b, `,"hash":`...), string(l.Hash)), '}')
}

func (r *RunningJob) append(b []byte) []byte {
	b = job.AppendText(append(b, `{"tenant":`...), string(r.Tenant))
	b = job.AppendText(append(b, `,"job":`...), string(r.Job))
	b = strconv.AppendInt(append(b, `,"priority":`...), int64(r.Priority), 10)
	b = job.AppendText(append(b, `,"hash":`...), string(r.Hash))
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(r.Attempt), 10)
	return append(job.AppendTime(append(b, `,"since":`...), r.Since), '}')
}

func (e *EndedJob) append(b []byte) []byte {
	b = job.AppendText(append(b, `{"tenant":`...), string(e.Tenant))
	b = job.AppendText(append(b, `,"job":`...), string(e.Job))
	b = strconv.AppendInt(append(b, `,"priority":`...), int64(e.Priority), 10)
	b = job.AppendText(append(b, `,"hash":`...), string(e.Hash))
	b = appendInt(b, `,"size":`, e.Size)
	b = appendDuration(append(b, `,"ran_for":`...), e.RanFor)
	b = strconv.AppendBool(append(b, `,"success":`...), e.Success)
	b = appendText(b, `,"kind":`, string(e.Kind))
	for i := range e.Loads {
		b = e.Loads[i].append(append(b, opening(i, `,"loads":[`)...))
	}
	return append(closing(b, len(e.Loads)), '}')
}

func (l *ModelLoad) append(b []byte) []byte {
	switch {
	case l.Files == nil:
		b = append(b, `{"files":null`...)
	case len(l.Files) == 0:
		b = append(b, `{"files":[]`...)
	default:
		b = appendTexts(b, `{"files":[`, l.Files)
	}
	return append(appendDuration(append(b, `,"took":`...), l.Took), '}')
}

// appendJSON appends a reply like HostState.AppendJSON does.
func (r *Reply) appendJSON(b []byte) []byte {
	b = job.AppendText(append(b, `{"answer":`...), string(r.Answer))
	b = appendText(b, `,"reason":`, r.Reason)
	return append(r.State.AppendJSON(append(b, `,"state":`...)), '}')
}

// appendDuration escapes nothing, since a duration has no character that JSON must escape.
func appendDuration(b []byte, d job.Duration) []byte {
	return append(append(append(b, '"'), time.Duration(d).String()...), '"')
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return job.AppendText(append(b, name...), value)
}

func appendInt(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), value, 10)
}

func appendTexts[T ~string](b []byte, name string, values []T) []byte {
	for i, v := range values {
		b = job.AppendText(append(b, opening(i, name)...), string(v))
	}
	return closing(b, len(values))
}

// opening is the text before the i-th value of an array: the name before the first, a comma before the others. An empty array is
// left out; closing ends an array that has values.
func opening(i int, name string) string {
	if i > 0 {
		return ","
	}
	return name
}

func closing(b []byte, n int) []byte {
	if n == 0 {
		return b
	}
	return append(b, ']')
}
