package comfy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// jobDone is a prompt that has left one picture in its own folder.
var jobDone = says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"images": [{"filename": "a.png", "subfolder": "comfyherd/`+promptID+`", "type": "output"}]}}}`)

var ours = comfy.Prompt{ID: promptID, Workflow: []byte(graph)}

// ran is what became of a run in the bubble.
type ran struct {
	result *comfy.Result
	err    error
	took   time.Duration
	looks  []string // when the prompt was looked up
	log    []string // all that was asked
}

// runs runs a prompt in the bubble; with a socket, events says what comes over it.
func runs(t *testing.T, answers routes, p comfy.Prompt, w comfy.Watch, events func(comfy.Socket)) ran {
	t.Helper()
	if answers["POST /prompt"] == nil {
		answers["POST /prompt"] = accepts(promptID)
	}
	host, b := inBubble(t, answers, comfy.Options{})
	if events != nil {
		socket, err := comfy.OpenSocket(host)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Drop()
		go events(socket)
	}
	began := time.Now()
	var r ran
	r.result, r.err = host.Run(t.Context(), p, w)
	r.took, r.log = time.Since(began), b.log()
	for _, asked := range r.log {
		if at, isLook := strings.CutSuffix(asked, " GET "+jobPath); isLook {
			r.looks = append(r.looks, at)
		}
	}
	return r
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestAPromptWithoutASocketIsLookedUpSoonAndThenAtEachInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, routes{"GET " + jobPath: after(5*time.Second, job("in_progress"), jobDone)}, ours, comfy.Watch{}, nil)
		if r.err != nil || len(r.result.Outputs) != 1 {
			t.Errorf("%+v, %v", r.result, r.err)
		}
		same(t, "looks", r.looks, []string{"0s", "20ms", "60ms", "140ms", "300ms", "620ms", "1.26s", "2.26s", "3.26s", "4.26s", "5.26s"})
	})
}

func TestAPromptWithASocketIsLookedUpAtEachIntervalAndWhenItHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, routes{"GET " + jobPath: after(2500*time.Millisecond, job("in_progress"), jobDone)}, ours, comfy.Watch{}, func(s comfy.Socket) {
			pass(time.Second / 2)
			s.Says(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}}}}`)
			s.Says(`{"type":"execution_start","data":{"prompt_id":"` + promptID + `"}}`)
			pass(1800 * time.Millisecond)
			s.Says(`{"type":"execution_success","data":{"prompt_id":"` + promptID + `"}}`)
		})
		if r.err != nil {
			t.Error(r.err)
		}
		same(t, "looks", r.looks, []string{"1s", "2s", "2.3s", "2.32s", "2.36s", "2.44s", "2.6s"})
		same(t, "took", r.took, 2600*time.Millisecond)
	})
}

// What ends while a look is under way is looked up again as soon as that has its answer.
func TestAnEndDuringALookIsLookedUpAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(w http.ResponseWriter, r *http.Request) {
			pass(500 * time.Millisecond)
			job("in_progress")(w, r)
		}
		r := runs(t, routes{"GET " + jobPath: after(1200*time.Millisecond, slow, jobDone)}, ours, comfy.Watch{}, func(s comfy.Socket) {
			pass(1100 * time.Millisecond)
			s.Says(`{"type":"execution_success","data":{"prompt_id":"` + promptID + `"}}`)
		})
		same(t, "looks", r.looks, []string{"1s", "1.5s"})
		if r.err != nil {
			t.Error(r.err)
		}
	})
}

// A limit begins when nothing stands before the prompt, which only a look finds out.
func TestAPromptWithALimitIsLookedUpAfterAQuarterOfIt(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*comfy.Prompt){
		"Start": func(p *comfy.Prompt) { p.Start = 2 * time.Second },
		"Total": func(p *comfy.Prompt) { p.Total = 2 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := ours
				set(&p)
				r := runs(t, routes{"GET " + jobPath: job("pending"), "GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`)}, p, comfy.Watch{}, func(comfy.Socket) {})
				same(t, "kind", failure.KindOf(r.err), failure.Timeout)
				same(t, "asked", r.log[1:], []string{"500ms GET " + jobPath, "500ms GET /prompt", "1.5s GET " + jobPath, "1.5s GET /prompt"})
				same(t, "took", r.took, 2*time.Second)
			})
		})
	}
}

// The times of a result are those of the host's record, and those that were seen where it has none.
func TestARecordWithoutTimesHasThoseThatWereSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := after(time.Second, job("pending"), after(3*time.Second, job("in_progress"), jobDone))
		r := runs(t, routes{"GET " + jobPath: state}, ours, comfy.Watch{}, nil)
		if r.err != nil {
			t.Fatal(r.err)
		}
		same(t, "queued", r.result.Queued, 1260*time.Millisecond)
		same(t, "ran", r.result.Ran, 2*time.Second) // seen from 1.26 s to 3.26 s
	})
}

func TestAPromptThatIsNotThereAnyMoreIsLookedUpThreeTimes(t *testing.T) {
	t.Parallel()
	gone := []string{"0s", "20ms", "60ms", "140ms", "300ms", "620ms", "1.26s", "1.31s", "1.36s"}
	for name, c := range map[string]struct {
		state http.HandlerFunc
		looks []string
		want  failure.Failure
	}{
		"Deleted": {after(time.Second, job("pending"), noJob), gone,
			failure.Failure{Kind: failure.Interrupted, Message: "the prompt was deleted from ComfyUI's backlog by somebody else"}},
		"HistoryCleared": {after(time.Second, job("in_progress"), noJob), gone,
			failure.Failure{Kind: failure.Interrupted, Message: "the prompt ran, and ComfyUI's history was cleared before its result could be read"}},
		"Restarted": {after(time.Second, job("in_progress"), after(1300*time.Millisecond, refuses, noJob)),
			append(gone[:7:7], "1.36s", "1.41s", "1.46s"), failure.Failure{Kind: failure.HostLost, Message: "ComfyUI was restarted while it had the prompt"}},
		"NotFoundForAMoment": {after(time.Second, job("in_progress"), after(1350*time.Millisecond, noJob, jobDone)), gone, failure.Failure{}},
		"PortRefuses": {after(time.Second, job("in_progress"), refuses), append(gone[:7:7], "1.36s"),
			failure.Failure{Kind: failure.HostLost, Message: "ComfyUI is gone, its port refuses connections: connect: connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: c.state}, ours, comfy.Watch{}, nil)
				same(t, "looks", r.looks, c.looks)
				got := failure.Failure{}
				if r.err != nil {
					got = *failure.As(r.err)
				}
				if strings.Contains(got.Message, "refuses connections") {
					got.Message, _, _ = strings.Cut(got.Message, ": dial")
					c.want.Message, _, _ = strings.Cut(c.want.Message, ": connect")
				}
				same(t, "failure", got, c.want)
			})
		})
	}
}

// A prompt that ended while the answer to its POST is still missing may have been taken in part: that answer is awaited.
func TestAnEndingWaitsThreeSecondsForTheAnswerToItsPost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, routes{"GET " + jobPath: jobDone, "POST /prompt": silent}, ours, comfy.Watch{}, nil)
		same(t, "looks", r.looks, []string{"1s", "2s", "3s", "4s", "5s"})
		if r.err != nil {
			t.Error(r.err)
		}
	})
}

// A prompt that left no file may have sent pictures over the websocket, whose event of the end is still under way.
func TestAnEndingWithoutFilesWaitsThreeSecondsForTheSocket(t *testing.T) {
	t.Parallel()
	empty := says(http.StatusOK, `{"status": "completed", "outputs": {}}`)
	start := func(s comfy.Socket) { s.Says(`{"type":"execution_start","data":{"prompt_id":"` + promptID + `"}}`) }
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		events func(comfy.Socket)
		took   time.Duration
	}{
		"NothingComes": {empty, func(s comfy.Socket) { start(s) }, 4 * time.Second}, // found at 1 s
		"ASignComes": {empty, func(s comfy.Socket) {
			pass(2500 * time.Millisecond)
			start(s)
		}, 6 * time.Second}, // at the first look after 5.5 s
		"TheEndComes": {empty, func(s comfy.Socket) {
			pass(1500 * time.Millisecond)
			s.Says(`{"type":"execution_success","data":{"prompt_id":"` + promptID + `"}}`)
		}, 1500 * time.Millisecond},
		"ItHasAFile":   {jobDone, func(s comfy.Socket) { start(s) }, time.Second},
		"ItHasAText":   {says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"text": ["x"]}}}`), start, time.Second},
		"ItWasStopped": {says(http.StatusOK, `{"status": "cancelled", "outputs": {}}`), start, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: c.answer}, ours, comfy.Watch{}, c.events)
				same(t, "took", r.took, c.took)
			})
		})
	}
}

func TestAResumedPromptIsLookedUpAtOnce(t *testing.T) {
	t.Parallel()
	p := ours
	p.Resume = true
	for name, c := range map[string]struct {
		state http.HandlerFunc
		told  bool
		looks []string
	}{
		"Ended":  {jobDone, true, []string{"0s"}},
		"Runs":   {after(50*time.Millisecond, job("in_progress"), jobDone), true, []string{"0s", "0s", "20ms", "60ms"}},
		"Gone":   {noJob, false, []string{"0s"}},
		"NoPort": {refuses, false, []string{"0s", "100ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				told := false
				r := runs(t, routes{"GET " + jobPath: c.state}, p, comfy.Watch{Submitted: func() { told = true }}, nil)
				same(t, "looks", r.looks, c.looks)
				same(t, "submitted", told, c.told)
				same(t, "ended well", r.err == nil, c.told)
				for _, asked := range r.log {
					if strings.Contains(asked, "POST") {
						t.Errorf("it was posted: %s", asked)
					}
				}
			})
		})
	}
}

// A look that fails is made again soon when its connection broke, and counted when something else than ComfyUI answers.
func TestLooksThatFailAreCountedByTheirReason(t *testing.T) {
	t.Parallel()
	soon := []string{"0s", "20ms", "60ms", "140ms", "300ms", "620ms", "1.26s"}
	for name, c := range map[string]struct {
		fails http.HandlerFunc
		looks []string
		kind  failure.Kind
	}{
		"ConnectionBreaks": {after(1600*time.Millisecond, breaks, jobDone), append(soon[:7:7], "1.51s", "1.76s"), ""},
		"Foreign":          {says(http.StatusForbidden, ""), append(soon[:7:7], "2.26s", "3.26s", "4.26s"), failure.Lost},
		"NoJSON":           {says(http.StatusInternalServerError, ""), append(soon[:7:7], "2.26s", "3.26s", "4.26s"), failure.ExecutionError},
		"ForeignForAWhile": {after(4*time.Second, says(http.StatusForbidden, ""), jobDone), append(soon[:7:7], "2.26s", "3.26s", "4.26s"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := after(time.Second, job("in_progress"), c.fails)
				r := runs(t, routes{"GET " + jobPath: answer, "GET /queue": answer, "GET /history/" + promptID: answer}, ours, comfy.Watch{}, nil)
				same(t, "looks", r.looks, c.looks)
				same(t, "kind", failure.KindOf(r.err), c.kind)
			})
		})
	}
}

// A prompt waits for a foreign one no longer than its start limit, and for one of our own as long as that takes.
func TestTheStartLimitCountsForeignPromptsAndNotOurOwn(t *testing.T) {
	t.Parallel()
	const other = "1591d20b-ec41-400d-ac88-1b5c18025624"
	queue := says(http.StatusOK, `{"queue_running": [[0, "`+other+`", {}, {}, []]], "queue_pending": [[1, "`+promptID+`", {}, {}, []]]}`)
	two := says(http.StatusOK, `{"exec_info": {"queue_remaining": 2}}`)
	for name, c := range map[string]struct {
		own  bool
		want failure.Failure
		took time.Duration
	}{
		"Foreign": {false, failure.Failure{Kind: failure.RejectedBusy, Message: "other people's prompts ran before it for 2s (start timeout)"}, 2 * time.Second},
		"OurOwn":  {true, failure.Failure{Kind: failure.Timeout, Message: "the prompt did not end within 2s (total timeout)"}, 12260 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, routes{
					"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
						body := make([]byte, r.ContentLength)
						_, _ = r.Body.Read(body)
						id := promptID
						if strings.Contains(string(body), other) {
							id = other
						}
						accepts(id)(w, r)
					},
					"GET " + jobPath: after(10*time.Second, job("pending"), job("in_progress")), "GET /api/jobs/" + other: job("in_progress"), "GET /queue": queue, "GET /prompt": two,
				}, comfy.Options{})
				ctx, leave := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if c.own {
						_, _ = host.Run(ctx, comfy.Prompt{ID: other, Workflow: []byte(graph)}, comfy.Watch{})
					}
				}()
				synctest.Wait()
				began := time.Now()
				p := ours
				p.Start = 2 * time.Second
				if c.own {
					p.Total = 2 * time.Second
				}
				_, err := host.Run(t.Context(), p, comfy.Watch{})
				same(t, "failure", *failure.As(err), c.want)
				same(t, "took", time.Since(began), c.took)
				leave()
				<-ended
			})
		})
	}
}

// ComfyUI may answer again before the end of its predecessor's socket is noticed, as on a machine that is very busy.
func TestAPromptIsGoneOnlyWhenTheSocketAnswersOrHasEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drops bool
		want  failure.Kind
	}{"Restarted": {true, failure.HostLost}, "NoAnswer": {false, failure.Interrupted}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: after(2*time.Second, job("in_progress"), noJob)}, ours, comfy.Watch{}, func(s comfy.Socket) {
					s.FallSilent()
					pass(500 * time.Millisecond)
					s.Says(statusFrame)
					s.Says(event("execution_start", ""))
					<-s.Pinged
					if pass(time.Second); c.drops {
						s.Drop()
					}
				})
				same(t, "kind", failure.KindOf(r.err), c.want)
			})
		})
	}
}
