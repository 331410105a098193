package queue

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

const (
	mostStory    = 32 << 10 // of the 64 KiB of headers that NATS allows
	otherHeaders = 2 << 10  // of a letter
)

// storyRoom is how many bytes the dead event may have beside a body.
func (q *Queue) storyRoom(body int) int {
	return min(mostStory, int(q.nc.MaxPayload())-body-otherHeaders)
}

// story is the dead event in a letter's header: with every attempt, and texts cut until it fits into the room. When even attempts
// without texts do not fit, the oldest of them are left out.
func story(e *job.Event, room int) string {
	slim := *e
	slim.Metadata = nil // is in the body
	for _, most := range []int{4096, 1024, 256, 64, 0} {
		slim.Message, slim.Hosts = cut(e.Message, max(most, 64)), cutAll(e.Hosts, most)
		slim.Attempts = cutAttempts(e.Attempts, most)
		if text := compact(&slim); len(text) <= room {
			return text
		}
	}
	slim.Hosts = nil
	for len(slim.Attempts) > 0 && len(compact(&slim)) > room {
		slim.Attempts = slim.Attempts[1:]
	}
	if text := compact(&slim); len(text) <= room {
		return text
	}
	return compact(&job.Event{Job: e.Job, Tenant: e.Tenant, Priority: e.Priority, Hash: e.Hash, Kind: e.Kind, Reason: e.Reason, Time: e.Time})
}

func compact(e *job.Event) string {
	text, err := json.Marshal(e)
	if err != nil { // cannot occur: our events have only values that JSON can express
		return ""
	}
	return string(text)
}

func cutAttempts(attempts []failure.Attempt, most int) []failure.Attempt {
	short := slices.Clone(attempts)
	for i := range short {
		a := &short[i]
		a.Message, a.Node, a.Class, a.Exception = cut(a.Message, most), cut(a.Node, most), cut(a.Class, most), cut(a.Exception, most)
	}
	return short
}

func cutAll(texts map[string]string, most int) map[string]string {
	if most == 0 || texts == nil {
		return nil
	}
	short := make(map[string]string, len(texts))
	for name, text := range texts {
		short[name] = cut(text, most)
	}
	return short
}

// cut keeps the first bytes of a text, and does not split a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// setEvent decodes the letter's event. A letter of an earlier version has no event: then it is made from the other headers.
func (d *DeadLetter) setEvent() {
	d.Event = job.Event{
		EventKind: job.Dead, Job: d.Job, Tenant: d.Tenant, Priority: d.Priority(), Time: d.Time, Reason: string(d.Reason),
		RequeueOf: job.ID(d.Header.Get(names.RequeueOfHeader)),
	}
	if e, named, err := job.DecodeStored(d.Tenant, d.Job, job.Dead, []byte(d.Header.Get(names.StoryHeader))); named && err == nil {
		d.Event = e
	}
}
