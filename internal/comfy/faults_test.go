package comfy_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// event is a text frame of the websocket about our prompt.
func event(kind, more string) string {
	return `{"type":"` + kind + `","data":{"prompt_id":"` + promptID + `"` + more + `}}`
}

const statusFrame = `{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}}}}`

// The limits of a prompt begin when nothing stands before it any more.
func TestLimitsBeginAtTheHeadOfTheBacklog(t *testing.T) {
	t.Parallel()
	behind := says(http.StatusOK, `{"queue_running": [], "queue_pending": [[0, "x", {}, {}, []], [1, "`+promptID+`", {}, {}, []]]}`)
	for name, c := range map[string]struct {
		start, total time.Duration
		want         string
		took         time.Duration
	}{
		"Start": {2 * time.Second, 0, "the prompt did not start within 2s (start timeout)", 7260 * time.Millisecond},
		"Total": {0, 3 * time.Second, "the prompt did not end within 3s (total timeout)", 8260 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := ours
				p.Start, p.Total = c.start, c.total
				r := runs(t, routes{"GET " + jobPath: job("pending"), "GET /queue": behind, // it is at the head from 5 s on
					"GET /prompt": after(5*time.Second, says(http.StatusOK, `{"exec_info": {"queue_remaining": 2}}`), says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`))},
					p, comfy.Watch{}, nil)
				same(t, "failure", *failure.As(r.err), failure.Failure{Kind: failure.Timeout, Message: c.want})
				same(t, "took", r.took, c.took)
			})
		})
	}
}

func TestTheNodeLimitRunsFromTheNewestSign(t *testing.T) {
	t.Parallel()
	p := ours
	p.Node = 3 * time.Second
	for name, c := range map[string]struct {
		events func(comfy.Socket)
		want   failure.Failure
		took   time.Duration
	}{
		"NodeBegins": {func(s comfy.Socket) {
			pass(1100 * time.Millisecond)
			s.Says(event("executing", `,"node":"2"`))
		}, failure.Failure{Kind: failure.Timeout, Message: "node 2 (SaveImage) made no progress for 3s (node timeout)", Node: "2", Class: "SaveImage"}, 4100 * time.Millisecond},
		"Progress": {func(s comfy.Socket) {
			pass(1100 * time.Millisecond)
			s.Says(event("executing", `,"node":"2"`))
			pass(2 * time.Second)
			s.Says(event("progress", `,"node":"2","value":1,"max":9`))
		}, failure.Failure{Kind: failure.Timeout, Message: "node 2 (SaveImage) made no progress for 3s (node timeout)", Node: "2", Class: "SaveImage"}, 6100 * time.Millisecond},
		"SocketIsLost": {func(s comfy.Socket) { // one node is left: the other was run
			pass(1100 * time.Millisecond)
			s.Says(event("executing", `,"node":"1"`))
			s.Says(event("executing", `,"node":"2"`))
			pass(time.Second)
			s.Drop()
		}, failure.Failure{Kind: failure.Timeout, Message: "the nodes that were left did not end within 3s (node timeout for each of them; the host sent no events)"}, 5100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: job("in_progress")}, p, comfy.Watch{}, func(s comfy.Socket) { s.Says(statusFrame); c.events(s) })
				same(t, "failure", *failure.As(r.err), c.want)
				same(t, "took", r.took, c.took)
			})
		})
	}
}

// What came over the websocket decides about a prompt whose record is gone.
func TestAPromptWithoutARecordEndsAsItsEventsSay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events []string
		want   failure.Failure
		files  int
	}{
		"Success": {[]string{event("executed", `,"node":"2","output":{"images":[{"filename":"a.png","subfolder":"comfyherd/`+promptID+`","type":"output"}]}`), event("execution_success", "")}, failure.Failure{}, 1},
		"Cached":  {[]string{event("execution_cached", `,"nodes":["1"]`), event("execution_success", "")}, failure.Failure{}, 0},
		"Raised": {[]string{event("execution_error", `,"node_id":"2","node_type":"SaveImage","exception_type":"ValueError","exception_message":"no"`)},
			failure.Failure{Kind: failure.ExecutionError, Node: "2", Class: "SaveImage", Exception: "ValueError", Message: "node 2 (SaveImage) raised ValueError: no"}, 0},
		"Stopped": {[]string{event("execution_interrupted", "")}, failure.Failure{Kind: failure.Interrupted, Message: "the prompt was interrupted in ComfyUI by somebody else"}, 0},
		"NoEnd":   {[]string{event("execution_start", "")}, failure.Failure{Kind: failure.Interrupted, Message: "the prompt ran, and ComfyUI's history was cleared before its result could be read"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: noJob}, ours, comfy.Watch{}, func(s comfy.Socket) {
					pass(500 * time.Millisecond)
					for _, e := range c.events {
						s.Says(e)
					}
				})
				if r.err != nil {
					same(t, "failure", *failure.As(r.err), c.want)
					return
				}
				same(t, "failure", failure.Failure{}, c.want)
				same(t, "files", len(r.result.Outputs), c.files)
				if name == "Cached" {
					same(t, "cached", r.result.CachedNodes, []string{"1"})
				}
			})
		})
	}
}

// A socket over which nothing comes is closed, so that another is opened: after a POST a status comes, and events of a run.
func TestASocketOverWhichNothingComesIsClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says   []string
		ends   time.Duration
		closed bool
	}{
		"NoStatus":          {[]string{event("execution_start", "")}, 4 * time.Second, true},
		"NoEventOfTheRun":   {[]string{statusFrame}, 2500 * time.Millisecond, true},
		"EventsCome":        {[]string{statusFrame, event("execution_start", "")}, 2500 * time.Millisecond, false},
		"TooQuickToSayMore": {[]string{statusFrame}, 900 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, routes{"POST /prompt": accepts(promptID), "GET " + jobPath: after(c.ends, job("in_progress"), jobDone)}, comfy.Options{})
				socket, err := comfy.OpenSocket(host)
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Drop()
				go func() {
					pass(100 * time.Millisecond)
					for _, e := range c.says {
						socket.Says(e)
					}
				}()
				if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				closed := false
				select {
				case <-socket.Closed:
					closed = true
				default:
				}
				same(t, "closed", closed, c.closed)
			})
		})
	}
}

// The log may have megabytes: it is read ever less often while nothing happens, and anew after an event.
func TestTheLogOfAQuietHostIsReadAfterEverLongerPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, routes{"GET " + jobPath: after(240*time.Second, job("in_progress"), jobDone)}, ours, comfy.Watch{}, func(s comfy.Socket) {
			s.Says(statusFrame)
			pass(100 * time.Millisecond)
			s.Says(statusFrame)
			pass(40*time.Second - 100*time.Millisecond)
			s.Says(event("execution_start", ""))
		})
		var reads []string
		for _, asked := range r.log {
			if at, isRead := strings.CutSuffix(asked, " GET /internal/logs/raw"); isRead {
				reads = append(reads, at)
			}
		}
		same(t, "reads", reads, []string{"5s", "15s", "35s", "45s", "55s", "1m15s", "1m55s", "2m55s", "3m55s"})
	})
}

func TestWhatMakesAHostSickIsSaidInItsReason(t *testing.T) {
	t.Parallel()
	const died = "ComfyUI's worker thread has died and nothing runs until ComfyUI is restarted"
	one := says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`)
	waits := says(http.StatusOK, `{"queue_running": [], "queue_pending": [[1, "x", {}, {}, []]]}`)
	goes := says(http.StatusOK, `{"queue_running": [[1, "x", {}, {}, []]], "queue_pending": []}`)
	for name, c := range map[string]struct {
		answers routes
		looks   []time.Duration
		want    string // of the last look; earlier ones find nothing
		fails   string
	}{
		"Idle":            {routes{"GET /prompt": one, "GET /queue": waits}, []time.Duration{0, 5 * time.Second, 10 * time.Second}, died + ": none has run for 10s, and 1 wait", ""},
		"NotIdleForLong":  {routes{"GET /prompt": one, "GET /queue": waits}, []time.Duration{0, 5 * time.Second, 9900 * time.Millisecond}, "", ""},
		"NotOftenEnough":  {routes{"GET /prompt": one, "GET /queue": waits}, []time.Duration{0, 20 * time.Second}, "", ""},
		"OneRanMeanwhile": {routes{"GET /prompt": one, "GET /queue": after(5*time.Second, waits, after(6*time.Second, goes, waits))}, []time.Duration{0, 2 * time.Second, 5 * time.Second, 6 * time.Second, 7 * time.Second, 15 * time.Second}, "", ""},
		"NothingWaits":    {routes{"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 0}}`)}, []time.Duration{0, 9 * time.Second, 20 * time.Second}, "", ""},
		"LogIsGarbled":    {routes{"GET /internal/logs/raw": says(http.StatusOK, "<html>"), "GET /prompt": one, "GET /queue": goes}, []time.Duration{0}, "", ""},
		"OldLogIsGarbled": {routes{"GET /internal/logs": says(http.StatusOK, "<html>"), "GET /prompt": one, "GET /queue": goes}, []time.Duration{0}, "", ""},
		"LogFails":        {routes{"GET /internal/logs": says(http.StatusForbidden, "")}, []time.Duration{0}, "", "read the log of " + address + ": /internal/logs answers HTTP 403 Forbidden"},
		"LogBreaks":       {routes{"GET /internal/logs/raw": breaks}, []time.Duration{0}, "", `read the log of ` + address + `: Get "` + address + `/internal/logs/raw": unexpected EOF`},
		"OldLogBreaks":    {routes{"GET /internal/logs": breaks}, []time.Duration{0}, "", `read the log of ` + address + `: Get "` + address + `/internal/logs": unexpected EOF`},
		"ProbeFails":      {routes{}, []time.Duration{0}, "", "ask " + address + ": /prompt answers HTTP 404 Not Found"},
		"QueueFails":      {routes{"GET /prompt": one, "GET /queue": says(http.StatusForbidden, "")}, []time.Duration{0}, "", "read the backlog of " + address + ": /queue answers HTTP 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, c.answers, comfy.Options{})
				began := time.Now()
				for i, at := range c.looks {
					pass(at - time.Since(began))
					reason, cause, err := host.Sick(t.Context())
					want, fails := "", ""
					if i == len(c.looks)-1 {
						want, fails = c.want, c.fails
					}
					said := ""
					if err != nil {
						said = err.Error()
					}
					same(t, "reason", reason, want)
					same(t, "error", said, fails)
					same(t, "sick", cause != "", want != "")
				}
			})
		})
	}
}

func TestAProcessThatCannotBeIdentifiedIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers routes
		want    string
	}{
		"CannotRead":   {routes{"GET /view": says(http.StatusForbidden, "")}, "ask " + address + " which process it is: /view answers HTTP 403 Forbidden"},
		"ReadBreaks":   {routes{"GET /view": breaks}, "ask " + address + " which process it is: "},
		"CannotWrite":  {routes{"POST /upload/image": says(http.StatusForbidden, "")}, "identify the process of " + address + ": /upload/image answers HTTP 403 Forbidden"},
		"NoRoom":       {routes{"POST /upload/image": says(http.StatusInternalServerError, troubled)}, "identify the process of " + address + ": ComfyUI cannot write a small file of ours"},
		"KeepsNothing": {routes{"POST /upload/image": says(http.StatusOK, "{}")}, "identify the process of " + address + ": the file does not keep what is written to it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, c.answers, comfy.Options{})
				if id, err := host.Process(t.Context()); err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("it is %q, %v", id, err)
				}
			})
		})
	}
}

func TestSubmitsThatFailSayWhatToDo(t *testing.T) {
	t.Parallel()
	unreachable := func(http.ResponseWriter, *http.Request) {
		panic(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EMFILE})
	}
	partly := says(http.StatusOK, `{"prompt_id": "`+promptID+`", "node_errors": {"2": {"errors": [], "class_type": "SaveImage"}}}`)
	for name, c := range map[string]struct {
		answers routes
		want    failure.Failure
		took    time.Duration
	}{
		"NoFiles": {routes{"POST /prompt": unreachable}, failure.Failure{Kind: failure.RejectedBusy,
			Message: "cannot connect to ComfyUI, nothing was sent: dial tcp: too many open files; look at this machine's network, names and open files if the host is up"}, 0},
		// A look after 50 ms and three that are a second apart are answered by something else.
		"Foreign": {routes{"POST /prompt": breaks, "GET " + jobPath: says(http.StatusForbidden, ""), "GET /queue": says(http.StatusForbidden, "")}, failure.Failure{Kind: failure.Lost, Exception: comfy.Foreign,
			Message: "ComfyUI cannot be asked how far the prompt is: /queue answers HTTP 403 Forbidden; check the proxy or firewall before ComfyUI"}, 3050 * time.Millisecond},
		// The rest is cancelled for 10 s before the failure is told.
		"InPart": {routes{"POST /prompt": partly, "GET " + jobPath: breaks}, failure.Failure{Kind: failure.Refused, Node: "2", Class: "SaveImage", Exception: "dropped",
			Message: "node 2 (SaveImage): ComfyUI leaves this node out and does not say why"}, 10 * time.Second},
		// No answer within a minute: it may still arrive.
		"NoAnswer": {routes{"POST /prompt": silent, "GET " + jobPath: noJob}, failure.Failure{Kind: failure.HostLost,
			Message: "ComfyUI did not answer the submit and does not have the prompt: context deadline exceeded"}, 60750 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, c.answers, ours, comfy.Watch{}, nil)
				same(t, "failure", *failure.As(r.err), c.want)
				same(t, "took", r.took, c.took)
			})
		})
	}
}

func TestAnAnswerThatIsTooLongIsAnError(t *testing.T) {
	t.Parallel()
	answer := func(length int) http.HandlerFunc {
		body := `{"exec_info": {"queue_remaining": 1}}`
		return says(http.StatusOK, body+strings.Repeat(" ", length-len(body)))
	}
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{"GET /prompt": answer(1 << 20)}, comfy.Options{})
		if _, err := host.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		host, _ = inBubble(t, routes{"GET /prompt": answer(1<<20 + 1)}, comfy.Options{})
		if _, err := host.Probe(t.Context()); err == nil || err.Error() != "ask "+address+" for /prompt: GET /prompt: the answer is too large (over 1048576 bytes)" {
			t.Error(err)
		}
	})
}

// A prompt that was left ten minutes ago does not arrive any more, and is forgotten with the next one.
func TestALostPostIsForgottenAfterTenMinutes(t *testing.T) {
	t.Parallel()
	for later, want := range map[time.Duration]int{10 * time.Minute: 9, 10*time.Minute + time.Second: 1} {
		synctest.Test(t, func(t *testing.T) {
			host, b := inBubble(t, routes{"POST /prompt": silent, "GET " + jobPath: noJob}, comfy.Options{})
			leaveWhilePosting(t, host)
			pass(later - time.Second) // it was posted a second ago
			ctx, leave := context.WithTimeout(t.Context(), time.Second/2)
			defer leave()
			_, _ = host.Run(ctx, comfy.Prompt{ID: secondID, Workflow: []byte(graph)}, comfy.Watch{})
			b.log()
			if err := host.Cancel(t.Context(), promptID); err != nil {
				t.Error(err)
			}
			same(t, later.String(), len(b.log()), want)
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		moved := func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, address+"/login", http.StatusFound)
		}
		host, b := inBubble(t, routes{"POST /prompt": moved, "GET /prompt": moved}, comfy.Options{})
		if err := host.ProbeSubmit(t.Context()); err == nil || !strings.Contains(err.Error(), "which points elsewhere") {
			t.Error(err)
		}
		if _, err := host.Probe(t.Context()); err == nil || comfy.Reason(err) != "/prompt answers HTTP 302 Found" {
			t.Error(err)
		}
		same(t, "asked", b.log(), []string{`0s POST /prompt {"prompt":{}}`, "0s GET /prompt"})
	})
}
