package comfy_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const jobPath, cancelPath = "/api/jobs/" + promptID, "/api/jobs/" + promptID + "/cancel"

// job is the answer of GET /api/jobs/{id}.
func job(status string) http.HandlerFunc { return says(http.StatusOK, `{"status": "`+status+`"}`) }

// noJob is that of a ComfyUI that does not have the prompt.
var noJob = says(http.StatusNotFound, `{"error": "Job not found"}`)

func TestAPromptIsAskedToStopEverySecondUntilItHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, b := inBubble(t, routes{"GET " + jobPath: after(2500*time.Millisecond, job("in_progress"), job("cancelled")), "POST " + cancelPath: says(http.StatusOK, `{}`)}, comfy.Options{})
		if err := host.Cancel(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		want := []string{
			"0s GET " + jobPath, "0s POST " + cancelPath, "20ms GET " + jobPath, "60ms GET " + jobPath, "140ms GET " + jobPath, "300ms GET " + jobPath,
			"620ms GET " + jobPath, "1.12s GET " + jobPath, "1.12s POST " + cancelPath, "1.62s GET " + jobPath, "2.12s GET " + jobPath, "2.12s POST " + cancelPath,
			"2.62s GET " + jobPath,
		}
		if diff := cmp.Diff(want, b.log()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestHowAPromptIsAskedToStopDependsOnItsStateAndOnTheServer(t *testing.T) {
	t.Parallel()
	const remove, interrupt = `POST /queue {"delete":["` + promptID + `"]}`, `POST /interrupt {"prompt_id":"` + promptID + `"}`
	for name, c := range map[string]struct {
		state  string
		cancel http.HandlerFunc
		want   []string // of the first and of the second time
	}{
		"Pending":            {"pending", says(http.StatusOK, `{}`), []string{remove, "POST " + cancelPath, remove, "POST " + cancelPath}},
		"PendingOldServer":   {"pending", says(http.StatusNotFound, ``), []string{remove, "POST " + cancelPath, remove}},
		"Running":            {"in_progress", says(http.StatusOK, `{}`), []string{"POST " + cancelPath, "POST " + cancelPath}},
		"RunningOldServer":   {"in_progress", says(http.StatusNotFound, ``), []string{"POST " + cancelPath, interrupt, interrupt}},
		"RunningOlderServer": {"in_progress", says(http.StatusMethodNotAllowed, ``), []string{"POST " + cancelPath, interrupt, interrupt}},
		"CancelFails":        {"in_progress", says(http.StatusInternalServerError, ``), []string{"POST " + cancelPath, interrupt, "POST " + cancelPath, interrupt}},
		"CancelIsNotReached": {"in_progress", breaks, []string{"POST " + cancelPath, "POST " + cancelPath}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, b := inBubble(t, routes{
					"GET " + jobPath: after(1500*time.Millisecond, job(c.state), job("cancelled")),
					"POST /queue":    says(http.StatusOK, ``), "POST /interrupt": says(http.StatusOK, ``), "POST " + cancelPath: c.cancel,
				}, comfy.Options{})
				if err := host.Cancel(t.Context(), promptID); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(c.want, b.posts()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// The error says where the prompt is and what answered the last question.
func TestACancelThatRunsOutOfTimeSaysWhatItMetLast(t *testing.T) {
	t.Parallel()
	cause := errors.New("the host was given up")
	const prompt = "cancel prompt " + promptID + " on " + address + ": it is still "
	for name, c := range map[string]struct {
		answers routes
		want    string
	}{
		"ItGoesOn":         {routes{"GET " + jobPath: job("in_progress"), "POST " + cancelPath: says(http.StatusOK, `{}`)}, "running: the host was given up"},
		"DeletingIsBarred": {routes{"GET " + jobPath: job("pending"), "POST /queue": says(http.StatusForbidden, ``)}, "pending: send a command to " + address + ": /queue answers HTTP 403 Forbidden"},
		"NothingIsReached": {routes{"GET " + jobPath: breaks}, `unknown: Get "` + address + jobPath + `": unexpected EOF`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, c.answers, comfy.Options{})
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, cause)
				defer cancel()
				if err := host.Cancel(ctx, promptID); err == nil || err.Error() != prompt+c.want {
					t.Errorf("ends as %v, want %s", err, prompt+c.want)
				}
			})
		})
	}
}

func TestAPromptOfAComfyUIThatIsGoneHasStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, b := inBubble(t, routes{"GET " + jobPath: refuses}, comfy.Options{})
		if err := host.Cancel(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"0s GET " + jobPath}, b.log()); diff != "" {
			t.Error(diff)
		}
	})
}

// leaveWhilePosting begins a prompt and leaves it before its POST is answered, which may arrive later.
func leaveWhilePosting(t *testing.T, host *comfy.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := host.Run(ctx, comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("ends as %v", err)
	}
}

func TestAPromptWhosePostMayStillArriveIsAwaitedForTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, b := inBubble(t, routes{"POST /prompt": silent, "GET " + jobPath: noJob}, comfy.Options{})
		leaveWhilePosting(t, host)
		b.log()
		if err := host.Cancel(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		get := " GET " + jobPath
		want := []string{"0s" + get, "20ms" + get, "60ms" + get, "140ms" + get, "300ms" + get, "620ms" + get, "1.12s" + get, "1.62s" + get, "2.12s" + get}
		if diff := cmp.Diff(want, b.log()); diff != "" {
			t.Error(diff)
		}
		if err := host.Cancel(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"0s" + get}, b.log()); diff != "" {
			t.Errorf("it was awaited once, and is awaited again: %s", diff)
		}
	})
}

func TestAPromptThatArrivesLateIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived := after(2*time.Second, noJob, after(3*time.Second, job("pending"), job("cancelled"))) // it is left after 1 s
		host, b := inBubble(t, routes{"POST /prompt": silent, "GET " + jobPath: arrived, "POST /queue": says(http.StatusOK, ``), "POST " + cancelPath: says(http.StatusOK, ``)}, comfy.Options{})
		leaveWhilePosting(t, host)
		b.log()
		if err := host.Cancel(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		want := []string{`POST /queue {"delete":["` + promptID + `"]}`, "POST " + cancelPath}
		if diff := cmp.Diff(want, b.posts()); diff != "" {
			t.Error(diff)
		}
	})
}

// A request to stop is over when the prompt has stopped: another one under its id is not late.
func TestAPromptThatHasStoppedDoesNotMakeTheHostStuck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cancelled bool
		want      failure.Cause
	}{"Stopped": {true, ""}, "GoesOn": {false, failure.Stuck}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{
					"GET " + jobPath: job("in_progress"), "POST " + cancelPath: says(http.StatusOK, `{}`),
					"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`),
					"GET /queue":  says(http.StatusOK, `{"queue_running": [[0, "`+promptID+`", {}, {}, []]], "queue_pending": []}`),
				}
				if c.cancelled {
					answers["GET "+jobPath] = after(time.Second, job("in_progress"), job("cancelled"))
				}
				host, _ := inBubble(t, answers, comfy.Options{})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if err := host.Cancel(ctx, promptID); (err == nil) != c.cancelled {
					t.Error(err)
				}
				pass(13 * time.Second) // 15 s after the request
				if _, cause, err := host.Sick(t.Context()); cause != c.want || err != nil {
					t.Errorf("it is %q, %v", cause, err)
				}
			})
		})
	}
}

func TestFreeUnloadsModelsAndForgetDeletesOneEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, b := inBubble(t, routes{"POST /free": says(http.StatusOK, ``), "POST /history": says(http.StatusInternalServerError, ``)}, comfy.Options{})
		if err := host.Free(t.Context()); err != nil {
			t.Error(err)
		}
		if err := host.Forget(t.Context(), promptID); err == nil || err.Error() != "send a command to "+address+": /history answers HTTP 500 Internal Server Error" {
			t.Error(err)
		}
		want := []string{`POST /free {"free_memory":true,"unload_models":true}`, `POST /history {"delete":["` + promptID + `"]}`}
		if diff := cmp.Diff(want, b.posts()); diff != "" {
			t.Error(diff)
		}
	})
}
