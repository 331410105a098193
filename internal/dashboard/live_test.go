package dashboard_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestEventsComeAsTheyAreStored(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Version: "1.2.3"})
	live := s.follow("", nil)
	if hello := live.next(); hello.name != "hello" || hello.data.Resumed {
		t.Fatalf("%+v", hello)
	}
	s.tell("stored", ids("a", 3)...)
	got, last := live.jobs("stored", 3)
	if diff := cmp.Diff(ids("a", 3), got); diff != "" || last == "" {
		t.Errorf("%s, id %q", diff, last)
	}
}

// A browser that was away sends the id of its last message: here, and at another dashboard that has not seen the events come.
func TestAViewerWhoComesBackMissesNothingAndSeesNothingTwice(t *testing.T) {
	t.Parallel()
	here := serve(t, dashboard.Config{})
	live := here.follow("", nil)
	live.next()
	here.tell("back", "first")
	_, last := live.jobs("back", 1)
	live.stop()

	here.tell("back", ids("missed", 40)...)
	for name, s := range map[string]*site{"Here": here, "Elsewhere": serve(t, dashboard.Config{})} {
		again := s.follow(last, nil)
		if hello := again.next(); !hello.data.Resumed {
			t.Errorf("%s: not resumed", name)
		}
		got, _ := again.jobs("back", 40)
		here.tell("back", "then-"+name)
		more, _ := again.jobs("back", 1)
		again.stop()
		if name == "Here" {
			here.tell("back", "unused") // the other one must be sent what came since, too
		}
		want := append(ids("missed", 40), "then-"+name)
		got = slices.DeleteFunc(append(got, more...), func(id string) bool { return strings.HasPrefix(id, "then-") && id != "then-"+name || id == "unused" })
		for len(got) < len(want) {
			t.Fatalf("%s: %d events, want %d: %v", name, len(got), len(want), got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestANewViewerMayAskForTheNewestEvents(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/news:readers-word"))})
	s.tell("news", ids("old", 3)...)
	live := s.follow("", func(r *http.Request) {
		bearer("readers-word")(r)
		r.URL.RawQuery = "recent=200"
	})
	if hello := live.next(); hello.data.Resumed {
		t.Error("one who is new was resumed")
	}
	s.tell("news", "new")
	got, _ := live.jobs("news", 4)
	if diff := cmp.Diff(append(ids("old", 3), "new"), got); diff != "" {
		t.Error(diff)
	}
}

func TestAnIDThatCannotBeResumedSaysSo(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	for name, id := range map[string]string{"OfAnotherStream": "999999999", "NoNumber": "yesterday"} {
		live := s.follow(id, nil)
		if hello := live.next(); hello.data.Resumed {
			t.Errorf("%s: resumed", name)
		}
		live.stop()
	}
}

func TestATenantIsSentItsOwnEventsOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/mine:mines-word,guests-word"))})
	mine, all := s.follow("", bearer("mines-word")), s.follow("", bearer("guests-word"))
	mine.next()
	all.next()
	s.tell("theirs", "secret-1")
	s.tell("mine", "own-1")
	s.tell("theirs", "secret-2")
	for _, tenant := range []jetstream.Tenant{"theirs", "*", "mine"} {
		if err := s.q.AppendTry(t.Context(), &jetstream.WebhookTry{Tenant: tenant, Webhook: "orders", Type: "job.dead", Outcome: jetstream.Delivered, Time: s.q.Now()}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	s.tell("mine", "own-2")
	all.jobs("theirs", 2)
	for seen := 0; seen < 3; {
		for _, e := range mine.next().data.Events {
			if e.Event.Tenant != "mine" {
				t.Errorf("sent %+v", e)
			}
			seen++
		}
	}
	before := s.tell("theirs", "secret-3") - 1
	again := s.follow(strconv.FormatUint(before-5, 10), bearer("mines-word"))
	again.next()
	s.tell("mine", "own-3")
	for done := false; !done; {
		for _, e := range again.next().data.Events {
			if e.Event.Tenant != "mine" {
				t.Errorf("sent after a resume: %+v", e)
			}
			done = done || e.Event.Job == "own-3"
		}
	}
}

func TestProgressAndPreviewsOfRunningJobsAreSent(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/runs:runners-word,guests-word"))})
	live := s.follow("", bearer("runners-word"))
	live.next()
	stop, over := make(chan struct{}), make(chan struct{})
	go func() { // progress is not stored: it is sent until somebody is there
		defer close(over)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = s.q.PublishProgress("runs", "job", jetstream.Progress{Value: 3, Max: 20, NodesDone: 1, NodesTotal: 4})
				_ = s.q.PublishPreview("runs", "job", "image/png", []byte("a picture"))
				_ = s.q.PublishPreview("runs", "evil", "text/html", []byte("<script>"))
				_ = s.q.PublishProgress("others", "job", jetstream.Progress{Value: 1, Max: 2})
			}
		}
	}()
	for done := false; !done; {
		for _, j := range live.next().data.Jobs {
			if j.Tenant != "runs" {
				t.Errorf("sent the progress of %s", j.Tenant)
			}
			done = done || j.Job == "job" && j.Previews > 0
		}
	}
	close(stop)
	<-over
	got := s.ask(http.MethodGet, "/preview/runs/job", "", bearer("runners-word"))
	if got.code != http.StatusOK || got.body != "a picture" || got.header.Get("Content-Type") != "image/png" {
		t.Errorf("%d %v %q", got.code, got.header, got.body)
	}
	for _, path := range []string{"/preview/runs/evil", "/preview/others/job", "/preview/runs/nothing"} {
		if got := s.ask(http.MethodGet, path, "", bearer("runners-word")); got.code != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.code)
		}
	}
	e := job.Event{EventKind: job.Completed, Job: "job", Tenant: "runs", Time: time.Now()}
	if _, err := s.q.Append(t.Context(), &e, 0, "test", ""); err != nil {
		t.Fatal(err)
	}
	s.eventually("the preview is gone with its job", func() bool {
		return s.ask(http.MethodGet, "/preview/runs/job", "", bearer("runners-word")).code == http.StatusNotFound
	})
}

func TestNothingIsFollowedWithoutAViewer(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{MostViewers: 1})
	s.d.Linger(time.Millisecond)
	if s.d.Follows() {
		t.Error("events are followed before anybody looks")
	}
	live := s.follow("", nil)
	live.next()
	if !s.d.Follows() {
		t.Error("events are not followed")
	}
	if got := s.ask(http.MethodGet, "/live", "", nil); got.code != http.StatusServiceUnavailable || !strings.Contains(got.body, "1 pages are open") {
		t.Errorf("one more than may be: %d %s", got.code, got.body)
	}
	live.stop()
	s.eventually("events are no longer followed", func() bool { return !s.d.Follows() })
	again := s.follow("", nil)
	again.next()
	s.tell("lingers", "one")
	again.jobs("lingers", 1)
}

// The first viewer waits for NATS, and others come meanwhile.
func TestNoMoreViewersThanMayBeComeAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{MostViewers: 1})
	answers := make(chan *http.Response, 16)
	for range cap(answers) {
		r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/live", http.NoBody))
		go func() { answers <- must(http.DefaultClient.Do(r)) }()
	}
	got := map[int]int{}
	for range cap(answers) {
		resp := <-answers
		defer resp.Body.Close()
		got[resp.StatusCode]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusOK: 1, http.StatusServiceUnavailable: 15}, got); diff != "" {
		t.Error(diff)
	}
}

// pipes is a listener whose connections have no buffer: what the viewer does not read cannot be written.
type pipes struct {
	ends chan net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.ends:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func TestAViewerWhoTakesNothingIsCutOffAndOthersAreNotHeldUp(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Slow: 50 * time.Millisecond})
	l := &pipes{ends: make(chan net.Conn), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.d.Run(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	here, there := net.Pipe()
	l.ends <- there
	if _, err := io.WriteString(here, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Read(make([]byte, 1)); err != nil { // the answer begins, and the viewer reads no further
		t.Fatal(err)
	}
	quick := s.follow("", nil)
	quick.next()
	s.tell("slow", ids("a", 20)...)
	quick.jobs("slow", 20)
	s.eventually("only the viewer who reads is left", func() bool { return s.d.Viewers() == 1 })
	_ = here.SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := io.Copy(io.Discard, here); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
	_ = here.Close()
}
