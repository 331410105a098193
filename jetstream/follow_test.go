package jetstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// reader answers requests for events by a list of answers, the last one again and again, and notes what was asked.
type reader struct {
	t    *testing.T
	nc   *nats.Conn // on which it answers, so that what is published before comes before the answer
	page func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error)

	mu    sync.Mutex
	asked []string
}

func read(t *testing.T, url string, page func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error)) *reader {
	t.Helper()
	d := &reader{t: t, nc: connect(t, url), page: page}
	must(d.nc.Subscribe("comfy.tenants.acme.events", d.answer))
	must(0, d.nc.Flush())
	return d
}

func (d *reader) answer(msg *nats.Msg) {
	var r jetstream.EventsRequest
	must(0, json.Unmarshal(msg.Data, &r))
	d.mu.Lock()
	d.asked = append(d.asked, fmt.Sprintf("%s behind %d", r.Job, r.After))
	n, page := len(d.asked), d.page
	d.mu.Unlock()
	a, err := page(n, r)
	if err != nil {
		_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {err.Error()}, "Nats-Service-Error-Code": {jetstream.Code(err)}}}) // as below
		return
	}
	_ = msg.Respond(must(json.Marshal(a))) // it may be asked once more at the end of the test
}

// live publishes an event of a job as COMFY_EVENTS does; 0 is one that was not stored.
func (d *reader) live(subject string, sequence uint64) {
	msg := nats.NewMsg("comfy.events.jobs.acme." + subject)
	msg.Data = body(subject)
	if sequence > 0 {
		msg.Header.Set("Nats-Sequence", strconv.FormatUint(sequence, 10))
	}
	_ = d.nc.PublishMsg(msg) // an event that is lost fails the test
}

// body is that of an event, by the end of its subject.
func body(subject string) []byte {
	id, _, _ := strings.Cut(subject, ".")
	return []byte(`{"job":"` + id + `","tenant":"acme","priority":5}`)
}

// made is when a stream was created.
func made(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// page is the end of a stream of a year: events, each as its sequence and its subject.
func page(year int, next uint64, events ...string) jetstream.EventsAnswer {
	a := jetstream.EventsAnswer{Next: next, End: true, Made: made(year)}
	for _, e := range events {
		sequence, subject, _ := strings.Cut(e, " ")
		a.Events = append(a.Events, jetstream.EventNote{
			Sequence: must(strconv.ParseUint(sequence, 10, 64)), Subject: "comfy.events.jobs.acme." + subject, Event: body(subject),
		})
	}
	return a
}

// told gives the next items of what is followed, each as its sequence and its subject.
func told(t *testing.T, next func() (jetstream.Note, error, bool), n int) (items []string) {
	t.Helper()
	for range n {
		note, err, more := next()
		if err != nil || !more {
			t.Fatalf("behind %q comes %v", items, err)
		}
		items = append(items, fmt.Sprint(note.Sequence, strings.TrimPrefix(note.Subject, "comfy.events.jobs.acme")))
	}
	return items
}

func wantItems(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// An event may come live and in a page, before and after an outage.
func TestAnEventThatComesTwiceIsGivenOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url, nats.ReconnectWait(time.Millisecond))
	var d *reader
	d = read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 1, "1 a.queued"), nil
		case 2:
			d.live("a.waiting", 0) // not stored
			d.live("a.started", 1) // given already
			d.live("a.started", 2) // as this one, by the page
			d.live("a.retrying", 3)
			return page(2026, 2, "2 a.started"), nil
		}
		d.live("a.retrying", 3)
		d.live("b.queued", 5)
		return page(2026, 4, "3 a.retrying", "4 a.started"), nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(nc, "acme").Follow(t.Context(), 0))
	defer stop()
	wantItems(t, told(t, next, 3), "1.a.queued", "2.a.started", "3.a.retrying")
	must(0, nc.ForceReconnect())
	wantItems(t, told(t, next, 2), "4.a.started", "5.b.queued")
	wantItems(t, d.asked, " behind 0", " behind 1", " behind 2")
}

// The sequences of a stream that was created again begin at 1: what came live of the old one means nothing in it.
func TestAStreamThatWasCreatedAgainIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	var d *reader
	d = read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 7, "7 a.queued"), nil
		case 2:
			d.live("a.started", 8)
			return page(2027, 8), nil
		}
		d.live("c.queued", 2)
		return page(2027, 1, "1 b.queued"), nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 6))
	defer stop()
	wantItems(t, told(t, next, 3), "7.a.queued", "1.b.queued", "2.c.queued")
	wantItems(t, d.asked, " behind 6", " behind 7", " behind 0")
}

func TestFollowGoesOnAfterAnErrorThatMayPassAndEndsAfterOthers(t *testing.T) {
	t.Parallel()
	bad := &jetstream.BadRequest{Message: "no such tenant"}
	for name, c := range map[string]struct {
		first, second error
		want          error
	}{
		"Passes":       {nil, &jetstream.Failed{Message: "NATS is away"}, nil},
		"Wrong":        {nil, bad, bad},
		"FailsAtFirst": {&jetstream.Failed{Message: "NATS is away"}, nil, &jetstream.Failed{Message: "NATS is away"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startNATS(t)
			read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
				switch n {
				case 1:
					return page(2026, 1, "1 a.queued"), c.first
				case 2:
					return page(2026, 1), c.second
				}
				return page(2026, 2, "2 a.started"), nil
			})
			items := 0
			var last error
			for _, err := range jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 0) {
				if last = err; err == nil {
					items++
				}
				if items == 2 {
					break
				}
			}
			if (last == nil) != (c.want == nil) || last != nil && (jetstream.Code(last) != jetstream.Code(c.want) || last.Error() != c.want.Error()) {
				t.Errorf("after %d events it ends with %v, want %v", items, last, c.want)
			}
		})
	}
}

func TestFollowEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		if n == 1 {
			return page(2026, 1, "1 a.queued"), nil
		}
		return page(2026, 1), nil
	})
	nc := connect(t, url)
	next, stop := iter.Pull2(jetstream.NewClient(nc, "acme").Follow(t.Context(), 0))
	defer stop()
	told(t, next, 1)
	time.AfterFunc(10*time.Millisecond, nc.Close)
	if n, err, more := next(); !errors.Is(err, nats.ErrConnectionClosed) || !more {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err, more := next(); more {
		t.Errorf("and then %+v, %v", n, err)
	}
}

// A connection may be closed while an answer is awaited.
func TestWhatIsFollowedEndsWithItsConnectionDuringACall(t *testing.T) {
	t.Parallel()
	for name, follow := range map[string]func(*jetstream.Client) iter.Seq[error]{
		"One": func(c *jetstream.Client) iter.Seq[error] { return errorsOf(c.Follow(t.Context(), 0)) },
		"Many": func(c *jetstream.Client) iter.Seq[error] {
			return errorsOf(c.FollowMany(t.Context(), []jetstream.ID{"a"}))
		},
	} {
		url := startNATS(t)
		nc := connect(t, url)
		read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
			if n == 2 {
				nc.Close()
			}
			return page(2026, 1), nil
		})
		var last error
		for err := range follow(jetstream.NewClient(nc, "acme")) {
			last = err
		}
		if !errors.Is(last, nats.ErrConnectionClosed) {
			t.Errorf("%s ends with %v", name, last)
		}
	}
}

func errorsOf[T any](items iter.Seq2[T, error]) iter.Seq[error] {
	return func(yield func(error) bool) {
		for _, err := range items {
			if !yield(err) {
				return
			}
		}
	}
}

// The caller may want no more after an event of a page, or after a live one.
func TestAFollowerThatWantsNoMoreIsAskedNothing(t *testing.T) {
	t.Parallel()
	for wants, asks := range map[int]int{1: 1, 2: 1, 3: 2} {
		url := startNATS(t)
		var d *reader
		d = read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
			if n == 2 {
				d.live("a.completed", 3)
				d.live("b.queued", 4)
				return page(2026, 2), nil
			}
			return page(2026, 2, "1 a.queued", "2 a.started"), nil
		})
		got := 0
		for n, err := range jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if got++; n.Sequence != uint64(got) {
				t.Errorf("event %d is %d", got, n.Sequence)
			}
			if got == wants {
				break
			}
		}
		if got != wants || len(d.asked) != asks {
			t.Errorf("%d events after %q, want %d", got, d.asked, wants)
		}
	}
}

func TestASequenceThatCannotBeSearchedIsAnError(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	if n, err := acme.SequenceAt(t.Context(), made(2026)); n != 0 || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without a dispatcher: %d, %v", n, err)
	}
	answerAll(t, url, "comfy.tenants.acme.jobs", func(msg *nats.Msg) {
		must(0, msg.Respond(must(json.Marshal(jetstream.JobsAnswer{Jobs: []jetstream.JobRow{{Last: jetstream.Mark{Sequence: 9, Time: made(2026)}}}}))))
	})
	d := read(t, url, func(int, jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		return jetstream.EventsAnswer{}, &jetstream.Failed{Message: "no"}
	})
	if n, err := acme.SequenceAt(t.Context(), made(2025)); n != 0 || err == nil || jetstream.Code(err) != "500" {
		t.Errorf("when no events can be read: %d, %v", n, err)
	}
	d.mu.Lock()
	d.page = func(int, jetstream.EventsRequest) (jetstream.EventsAnswer, error) { return page(2026, 9), nil }
	d.mu.Unlock()
	if n, err := acme.SequenceAt(t.Context(), made(2025)); n != 0 || err != nil {
		t.Errorf("when no events are left: %d, %v", n, err)
	}
}

func TestOnlyEventsOfJobsAreEventsOfJobs(t *testing.T) {
	t.Parallel()
	if e, is := (&jetstream.Note{Subject: "comfy.events.jobs.acme.a.started", Body: []byte("{}")}).Event(); is {
		t.Errorf("a body that names no job is %+v", e)
	}
	long := strings.Repeat("x", 121)
	if e, is := (&jetstream.Note{Subject: "comfy.events.jobs.acme." + long + ".started", Body: body(long)}).Event(); is {
		t.Errorf("a job that has no id of a job is %+v", e)
	}
	for subject, want := range map[string]bool{
		"comfy.events.jobs.acme.a.started": true, "comfy.events.hosts.gpu.online": false, "comfy.events.jobs.acme.a": false,
		"comfy.events.jobs.acme." + strings.Repeat("x", 121) + ".started": false, "": false,
	} {
		n := jetstream.Note{Subject: subject, Body: body("a")}
		if e, is := n.Event(); is != want || is && (e.Job != "a" || e.Tenant != "acme" || e.EventKind != jetstream.JobStarted) {
			t.Errorf("%s: %+v, %t", subject, e, is)
		}
	}
}
