package comfy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// deadWorker is a log with what Python writes when an exception ends ComfyUI's worker thread.
var deadWorker = says(http.StatusOK, `{"entries": [{"t": "1", "m": "Exception in thread "}, {"t": "1", "m": "Thread-1 (prompt_worker)"}, {"t": "1", "m": ":\n"}, {"t": "1", "m": "KeyError: 'x'\n"}]}`)

// Of what is found out about a host while a prompt is quiet only a dead worker thread ends the prompt.
func TestOnlyADeadWorkerEndsAPromptThatIsQuiet(t *testing.T) {
	t.Parallel()
	running := says(http.StatusOK, `{"queue_running": [[0, "`+promptID+`", {}, {}, []]], "queue_pending": []}`)
	total := failure.Failure{Kind: failure.Timeout, Message: "the prompt did not end within 40s (total timeout)"}
	for name, c := range map[string]struct {
		log  http.HandlerFunc
		want failure.Failure
		took time.Duration
	}{
		"Dead": {deadWorker, failure.Failure{Kind: failure.HostSick, Cause: failure.WorkerGone, Exception: failure.WorkerDied,
			Message: "ComfyUI's worker thread has died and nothing runs until ComfyUI is restarted: KeyError: 'x'"}, 5 * time.Second},
		"Stuck":  {says(http.StatusOK, "{}"), total, 40 * time.Second},
		"Unread": {says(http.StatusInternalServerError, ""), total, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, routes{
					"GET " + jobPath: job("in_progress"), "POST " + jobPath + "/cancel": says(http.StatusOK, ""), "GET /queue": running,
					"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), "GET /internal/logs/raw": c.log, "GET /internal/logs": says(http.StatusInternalServerError, ""),
				}, comfy.Options{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := host.Cancel(ctx, promptID); err == nil { // it goes on, which makes the host stuck after 15 s
					t.Fatal("it stopped")
				}
				began := time.Now()
				_, err := host.Run(t.Context(), comfy.Prompt{ID: promptID, Workflow: []byte(graph), Resume: true, Total: 40 * time.Second}, comfy.Watch{})
				same(t, "failure", *failure.As(err), c.want)
				same(t, "took", time.Since(began), c.took)
			})
		})
	}
}

// Before the answer to its POST nothing is known of a prompt: looks that fail and a quiet host say nothing.
func TestAPromptIsJudgedAfterItsPostIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := routes{
			"GET " + jobPath: after(8*time.Second, says(http.StatusInternalServerError, ""), jobDone),
			"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
				pass(8 * time.Second)
				accepts(promptID)(w, r)
			},
		}
		answers["GET /queue"], answers["GET /history/"+promptID] = answers["GET "+jobPath], answers["GET "+jobPath]
		r := runs(t, answers, ours, comfy.Watch{}, nil)
		if r.err != nil {
			t.Error(r.err)
		}
		for _, asked := range r.log {
			if strings.Contains(asked, "/internal/logs") && !strings.HasPrefix(asked, "8s ") {
				t.Errorf("asked: %s", asked)
			}
		}
	})
}

// An end that was found before the POST was answered counts as soon as it is.
func TestAnEndingIsTakenWithTheAnswerToThePost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		w := comfy.Watch{Submitted: func() { told = append(told, "submitted") }, Running: func() { told = append(told, "running") }}
		r := runs(t, routes{"GET " + jobPath: jobDone, "POST /prompt": func(w http.ResponseWriter, r *http.Request) {
			pass(1500 * time.Millisecond)
			accepts(promptID)(w, r)
		}}, ours, w, func(s comfy.Socket) {
			pass(500 * time.Millisecond)
			s.Says(`{"type":"execution_start","data":{"prompt_id":"` + promptID + `"}}`)
			synctest.Wait()
			same(t, "told by an event", told, []string{"submitted", "running"})
		})
		if r.err != nil {
			t.Error(r.err)
		}
		same(t, "took", r.took, 1500*time.Millisecond)
		same(t, "told", told, []string{"submitted", "running"})
	})
}

func TestASocketWithoutAStatusIsClosedSoonAfterThePost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{"POST /prompt": accepts(promptID), "GET " + jobPath: after(4*time.Second, job("in_progress"), jobDone)}, comfy.Options{PollInterval: 4 * time.Second})
		socket, err := comfy.OpenSocket(host)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Drop()
		began, closed := time.Now(), make(chan time.Duration, 1)
		go func() {
			<-socket.Closed
			closed <- time.Since(began)
		}()
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Error(err)
		}
		same(t, "closed after", <-closed, 1500*time.Millisecond)
	})
}

// The time during which foreign prompts run before it counts again from 0 after a pause.
func TestTheStartLimitBeginsAgainWhenForeignPromptsComeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pending := `"queue_pending": [[1, "` + promptID + `", {}, {}, []]]}`
		foreign, nobody := says(http.StatusOK, `{"queue_running": [[0, "`+secondID+`", {}, {}, []]], `+pending), says(http.StatusOK, `{"queue_running": [], `+pending)
		p := ours
		p.Start = 3 * time.Second
		r := runs(t, routes{
			"GET " + jobPath: job("pending"), "GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 2}}`),
			"GET /queue": after(2*time.Second, foreign, after(3*time.Second, nobody, foreign)),
		}, p, comfy.Watch{}, nil)
		same(t, "failure", *failure.As(r.err), failure.Failure{Kind: failure.RejectedBusy, Message: "other people's prompts ran before it for 3s (start timeout)"})
		same(t, "took", r.took, 6260*time.Millisecond) // the look that found them again was at 3.26 s
	})
}

// Prompts that wait while another one runs are no sign of a dead worker.
func TestAWorkerThatRunsSomethingIsNotIdle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		running string
		want    failure.Cause
	}{"Runs": {`[[0, "x", {}, {}, []]]`, ""}, "Idles": {`[]`, failure.WorkerGone}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, routes{
					"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 2}}`), "GET /internal/logs/raw": says(http.StatusOK, "{}"),
					"GET /queue": says(http.StatusOK, `{"queue_running": `+c.running+`, "queue_pending": [[1, "y", {}, {}, []]]}`),
				}, comfy.Options{})
				var causes []failure.Cause
				for range 4 {
					_, cause, err := host.Sick(t.Context())
					if err != nil {
						t.Error(err)
					}
					causes = append(causes, cause)
					pass(5 * time.Second)
				}
				same(t, "causes", causes, []failure.Cause{"", "", c.want, c.want}) // after 10 s
			})
		})
	}
}

// A prompt that has stopped may be run again under its id, and then nobody has asked it to stop.
func TestAPromptThatHasStoppedIsForgotten(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(t *testing.T, host *comfy.Host, answers routes){
		"ByCancel": func(t *testing.T, host *comfy.Host, answers routes) {
			t.Helper()
			answers["GET "+jobPath] = job("completed")
			if err := host.Cancel(t.Context(), promptID); err != nil {
				t.Error(err)
			}
		},
		"WithTheBacklog": func(t *testing.T, host *comfy.Host, answers routes) {
			t.Helper()
			answers["GET /prompt"] = says(http.StatusOK, `{"exec_info": {"queue_remaining": 0}}`)
			if _, _, err := host.Sick(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one := says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`)
				answers := routes{
					"GET " + jobPath: job("in_progress"), "POST " + jobPath + "/cancel": says(http.StatusOK, ""), "GET /prompt": one, "GET /internal/logs/raw": says(http.StatusOK, "{}"),
					"GET /queue": says(http.StatusOK, `{"queue_running": [[0, "`+promptID+`", {}, {}, []]], "queue_pending": []}`),
				}
				host, _ := inBubble(t, answers, comfy.Options{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = host.Cancel(ctx, promptID)
				ends(t, host, answers)
				answers["GET /prompt"] = one
				pass(time.Minute)
				if _, cause, err := host.Sick(t.Context()); cause != "" || err != nil {
					t.Errorf("%s, %v", cause, err)
				}
			})
		})
	}
}

func TestASubmitKeepsAllThatDoesNotHarmTheHost(t *testing.T) {
	t.Parallel()
	for extra, want := range map[string]string{
		`{"extra_pnginfo": {"workflow": 1}}`: `"extra_data":{"extra_pnginfo":{"workflow":1}}`, `{"extra_pnginfo": null, "a": 1}`: `"extra_data":{"a":1}`, `{"extra_pnginfo":  null }`: "", "": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			p := ours
			p.ExtraData = []byte(extra)
			r := runs(t, routes{"GET " + jobPath: jobDone}, p, comfy.Watch{}, nil)
			posted := ""
			for _, asked := range r.log {
				if strings.Contains(asked, " POST /prompt ") {
					posted = asked
				}
			}
			if r.err != nil || !strings.Contains(posted, want) || strings.Contains(posted, "extra_data") != (want != "") {
				t.Errorf("%s was posted as %s: %v", extra, posted, r.err)
			}
		})
	}
}

// A prompt that may still arrive is waited for by Cancel; one that was refused is not.
func TestCancelWaitsOnlyForAPromptThatMayArrive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		post, look http.HandlerFunc
		kind       failure.Kind
		waits      bool
	}{
		"Refused":     {says(http.StatusBadRequest, `{"error": "no prompt", "node_errors": []}`), noJob, failure.InvalidWorkflow, false},
		"Silent":      {silent, noJob, failure.HostLost, true},
		"LooksBarred": {breaks, after(4*time.Second, says(http.StatusForbidden, ""), noJob), failure.Lost, true},
		"ProxyRaised": {says(http.StatusInternalServerError, "no"), noJob, failure.Refused, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{"POST /prompt": c.post, "GET " + jobPath: c.look, "GET /queue": after(4*time.Second, says(http.StatusForbidden, ""), says(http.StatusOK, emptyQueue))}
				host, _ := inBubble(t, answers, comfy.Options{})
				_, err := host.Run(t.Context(), ours, comfy.Watch{})
				same(t, "kind", failure.KindOf(err), c.kind)
				if name == "ProxyRaised" {
					same(t, "exception", failure.As(err).Exception, comfy.Foreign)
				}
				pass(max(0, 4*time.Second-time.Since(bubbleBegins)))
				began := time.Now()
				if err := host.Cancel(t.Context(), promptID); err != nil {
					t.Error(err)
				}
				if waited := time.Since(began) >= 2*time.Second; waited != c.waits {
					t.Errorf("it took %s", time.Since(began))
				}
			})
		})
	}
}

// What became of the host's socket before a prompt was seen again says nothing of it.
func TestAPromptThatIsSeenAfterAnOutageOfTheSocketDidNotGoWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := after(1500*time.Millisecond, job("in_progress"), after(3*time.Second, job("in_progress"), noJob))
		r := runs(t, routes{"GET " + jobPath: answer}, ours, comfy.Watch{}, func(s comfy.Socket) {
			pass(1200 * time.Millisecond)
			s.Drop()
		})
		same(t, "failure", *failure.As(r.err), failure.Failure{Kind: failure.Interrupted, Message: "the prompt ran, and ComfyUI's history was cleared before its result could be read"})
	})
}

// Between two questions a host may tell that nothing is in its backlog.
func TestABacklogThatIsEmptyMakesNoHostSick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := routes{
			"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), "GET /internal/logs/raw": says(http.StatusOK, "<html>"), "GET /queue": says(http.StatusOK, emptyQueue),
		}
		host, _ := inBubble(t, answers, comfy.Options{})
		for range 5 {
			if _, cause, err := host.Sick(t.Context()); cause != "" || err != nil {
				t.Errorf("%s, %v", cause, err)
			}
			pass(10 * time.Second)
		}
		answers["GET /prompt"] = says(http.StatusInternalServerError, "")
		if _, cause, err := host.Sick(t.Context()); cause != "" || err == nil {
			t.Errorf("of a host that does not answer: %s, %v", cause, err)
		}
	})
}

// A submit that makes ComfyUI raise blames the workflow only while ComfyUI is well.
func TestASubmitThatRaisesIsLookedUp(t *testing.T) {
	t.Parallel()
	well := says(http.StatusOK, `{"exec_info": {"queue_remaining": 0}}`)
	for name, c := range map[string]struct {
		look, probe http.HandlerFunc
		want        failure.Kind
	}{
		"ItIsThere":    {jobDone, well, ""},
		"Well":         {noJob, well, failure.InvalidWorkflow},
		"Ill":          {noJob, says(http.StatusInternalServerError, ""), failure.HostLost},
		"ProbeBreaks":  {noJob, breaks, failure.HostLost},
		"LookIsBarred": {says(http.StatusForbidden, ""), well, failure.InvalidWorkflow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{"POST /prompt": says(http.StatusInternalServerError, troubled), "GET " + jobPath: c.look, "GET /prompt": c.probe}
				if name == "LookIsBarred" {
					answers["GET /queue"] = c.look
				}
				r := runs(t, answers, ours, comfy.Watch{}, nil)
				same(t, "kind", failure.KindOf(r.err), c.want)
			})
		})
	}
}
