package queue

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// forms are messages of one kind that are filled in anew for every use: nats.go takes a header as a map of lists, which
// costs more than what stands in it. A form is blank while nobody holds it, so that nothing of one job can stand in
// the message of another.
type forms struct {
	names   []string // of the header
	options []string // names that a message may leave out; nats.go writes no line for an empty list
	blank   sync.Pool
}

// form is one message. Whoever took it holds it alone until it is put back.
type form struct {
	nats.Msg
	values []string // of the header, which points here, in the order of its names
	chosen []string // options that are set
}

func (f *forms) take() *form {
	if blank, ok := f.blank.Get().(*form); ok {
		return blank
	}
	made := &form{values: make([]string, len(f.names))}
	made.Header = make(nats.Header, len(f.names)+len(f.options))
	for i, name := range f.names {
		made.Header[name] = made.values[i : i+1 : i+1]
	}
	for _, name := range f.options {
		made.Header[name] = nil
	}
	return made
}

// put takes a form back once its message was sent or given up; nats.go keeps nothing of what it has written.
func (f *forms) put(used *form) {
	clear(used.values)
	for _, name := range used.chosen {
		used.Header[name] = nil
	}
	used.chosen = used.chosen[:0]
	used.Subject, used.Reply, used.Data = "", "", nil
	f.blank.Put(used)
}

// option sets a header that is left out when it has no value.
func (f *form) option(name, value string) {
	if value != "" {
		f.Header[name] = []string{value}
		f.chosen = append(f.chosen, name)
	}
}

// joiner makes strings that share their memory, once its size is set.
type joiner struct{ strings.Builder }

func (j *joiner) join(parts ...string) string {
	from := j.Len()
	for _, part := range parts {
		j.WriteString(part)
	}
	return j.String()[from:]
}

func (j *joiner) number(n uint64) string {
	from := j.Len()
	j.Write(strconv.AppendUint(make([]byte, 0, 20), n, 10))
	return j.String()[from:]
}

func (j *joiner) time(t time.Time) string {
	from := j.Len()
	j.Write(t.UTC().AppendFormat(make([]byte, 0, len(time.RFC3339Nano)), time.RFC3339Nano))
	return j.String()[from:]
}
