package comfy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// A prompt that sends pictures, or whose messages are all wanted, waits for the event of its end, whatever its record has.
func TestAnEndingWaitsForWhatOnlyTheSocketTells(t *testing.T) {
	t.Parallel()
	sends := comfy.Prompt{ID: promptID, Workflow: []byte(`{"1":{"class_type":"SaveImageWebsocket"},"2":{"class_type":"SaveImage"}}`)}
	stopped := says(http.StatusOK, `{"status": "cancelled", "outputs": {}}`)
	failed := says(http.StatusOK, `{"status": "failed", "outputs": {}}`)
	named := func(kind string) string { return `{"type":"` + kind + `","data":{"prompt_id":"` + promptID + `"}}` }
	for name, c := range map[string]struct {
		prompt comfy.Prompt
		record http.HandlerFunc
		frames bool
		end    string // what comes after 1.5 s; the record is found after 1 s
		took   time.Duration
		want   string // in the error
	}{
		"APictureIsMissing":   {sends, jobDone, false, "", 4 * time.Second, "none came"},
		"NoPictureWasSent":    {sends, jobDone, false, "execution_success", 1500 * time.Millisecond, "none came"},
		"StoppedBeforeIt":     {sends, stopped, false, "", time.Second, "interrupted"},
		"FramesOfAStop":       {ours, stopped, true, "execution_interrupted", 1500 * time.Millisecond, "interrupted"},
		"FramesOfAnException": {ours, failed, true, "execution_error", 1500 * time.Millisecond, "does not say why"},
		"FramesOfASuccess":    {ours, jobDone, true, "execution_success", 1500 * time.Millisecond, ""},
		"FramesWithoutAnEnd":  {ours, jobDone, true, "", 4 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w comfy.Watch
				if c.frames {
					w.Frame = func(comfy.Frame) {}
				}
				r := runs(t, routes{"GET " + jobPath: c.record}, c.prompt, w, func(s comfy.Socket) {
					s.Says(named("execution_start"))
					if c.end != "" {
						pass(1500 * time.Millisecond)
						s.Says(named(c.end))
					}
				})
				same(t, "took", r.took, c.took)
				if (r.err == nil) != (c.want == "") || r.err != nil && !strings.Contains(r.err.Error(), c.want) {
					t.Errorf("ends as %v, want %q", r.err, c.want)
				}
			})
		})
	}
}

// A state of progress that came too soon after another one is passed on when its time has come.
func TestAStateOfProgressIsPassedOnWithin200Milliseconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []string
		w := comfy.Watch{Frame: func(f comfy.Frame) {
			value := string(f.Data[len(f.Data)-3 : len(f.Data)-2])
			told = append(told, value+" after "+time.Since(began).String())
		}}
		r := runs(t, routes{"GET " + jobPath: after(1500*time.Millisecond, job("in_progress"), jobDone)}, ours, w, func(s comfy.Socket) {
			for n, wait := range []time.Duration{100 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 500 * time.Millisecond} {
				pass(wait)
				s.Says(`{"type":"progress_state","data":{"prompt_id":"` + promptID + `","value":` + string(rune('0'+n)) + `}}`)
			}
		})
		if r.err != nil {
			t.Error(r.err)
		}
		same(t, "told", told, []string{"0 after 100ms", "2 after 300ms", "3 after 620ms"})
	})
}

// A limit needs to know what stands before a pending prompt. When that is not told it counts as nothing, unless the look fails.
func TestAPlaceThatIsNotToldIsTheHead(t *testing.T) {
	t.Parallel()
	two := says(http.StatusOK, `{"exec_info": {"queue_remaining": 2}}`)
	for name, c := range map[string]struct {
		probe, queue http.HandlerFunc
		want         string
		took         time.Duration
	}{
		"OneInAll":       {says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), breaks, "did not start within 5s", 5 * time.Second},
		"JustGone":       {two, says(http.StatusOK, emptyQueue), "did not start within 5s", 5 * time.Second},
		"QueueIsBarred":  {two, says(http.StatusForbidden, ""), "/queue answers HTTP 403 Forbidden", 3 * time.Second},
		"OnlyTheProbe":   {breaks, says(http.StatusOK, emptyQueue), "did not start within 5s", 5 * time.Second},
		"QueueIsNoQueue": {two, says(http.StatusOK, "<html>"), "not one of ComfyUI's", 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := ours
				p.Start = 5 * time.Second
				r := runs(t, routes{"GET " + jobPath: job("pending"), "GET /prompt": c.probe, "GET /queue": c.queue}, p, comfy.Watch{}, nil)
				if r.err == nil || !strings.Contains(r.err.Error(), c.want) {
					t.Errorf("ends as %v, want %q", r.err, c.want)
				}
				same(t, "took", r.took, c.took)
			})
		})
	}
}

// The quick looks after a POST or an event must not use up what a proxy takes, nor the looks that may fail.
func TestAProxyThatBoundsHowOftenItIsAskedLosesNoPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		often := says(http.StatusTooManyRequests, "")
		answer := after(time.Millisecond, job("in_progress"), after(2500*time.Millisecond, often, jobDone))
		r := runs(t, routes{"GET " + jobPath: answer, "GET /queue": after(2500*time.Millisecond, often, says(http.StatusOK, emptyQueue))}, ours, comfy.Watch{}, nil)
		if r.err != nil {
			t.Error(r.err)
		}
		same(t, "looks", r.looks, []string{"0s", "20ms", "1.02s", "2.02s", "3.02s"})
	})
}

// A prompt whose POST had no answer is looked up until ComfyUI answers, and is not posted again when it is there.
func TestALostSubmitIsLookedUpThroughBrokenConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, routes{"POST /prompt": breaks, "GET " + jobPath: after(time.Second, breaks, jobDone)}, ours, comfy.Watch{}, nil)
		if r.err != nil || len(r.result.Outputs) != 1 {
			t.Errorf("%+v, %v", r.result, r.err)
		}
		posts := 0
		for _, asked := range r.log {
			if strings.Contains(asked, " POST ") {
				posts++
			}
		}
		same(t, "posts", posts, 1)
	})
}

// Also after a lost POST a proxy may bound how often it is asked.
func TestALostSubmitIsLookedUpBesideAnotherAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		often := says(http.StatusTooManyRequests, "")
		answer := after(2500*time.Millisecond, often, jobDone)
		began := time.Now()
		host, _ := inBubble(t, routes{"POST /prompt": breaks, "GET " + jobPath: answer, "GET /queue": after(2500*time.Millisecond, often, says(http.StatusOK, emptyQueue))},
			comfy.Options{PollInterval: 5 * time.Second})
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Error(err)
		}
		same(t, "took", time.Since(began), 3050*time.Millisecond)
	})
}

// A prompt that was asked to stop and has left no trace does not make the host stuck, whatever else waits there.
func TestAPromptThatHasLeftIsNoStuckOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := func(ids ...string) http.HandlerFunc {
			var entries []string
			for _, id := range ids {
				entries = append(entries, `[0, "`+id+`", {}, {}, []]`)
			}
			return says(http.StatusOK, `{"queue_running": [`+strings.Join(entries, ",")+`], "queue_pending": []}`)
		}
		answers := routes{
			"GET " + jobPath: job("in_progress"), "POST " + jobPath + "/cancel": says(http.StatusOK, "{}"), "POST /interrupt": says(http.StatusOK, ""),
			"GET /queue": queue(promptID), "GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), "GET /internal/logs/raw": says(http.StatusOK, "{}"),
		}
		host, _ := inBubble(t, answers, comfy.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := host.Cancel(ctx, promptID); err == nil {
			t.Fatal("it stopped")
		}
		sick := func() failure.Cause {
			_, cause, err := host.Sick(t.Context())
			if err != nil {
				t.Error(err)
			}
			return cause
		}
		pass(13999 * time.Millisecond)
		same(t, "after less than 15 s", sick(), failure.Cause(""))
		pass(time.Millisecond)
		same(t, "after 15 s", sick(), failure.Stuck)
		answers["GET /queue"] = queue(secondID)
		same(t, "when it has left", sick(), failure.Cause(""))
		answers["GET /queue"] = queue(promptID) // as if it were posted again
		same(t, "when it is there again", sick(), failure.Cause(""))
	})
}

func TestAHostThatIsGoneGivesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, http.HandlerFunc(refuses), comfy.Options{})
		for name, ask := range map[string]func() error{
			"Free":   func() error { return host.Free(t.Context()) },
			"Forget": func() error { return host.Forget(t.Context(), promptID) },
			"Page":   func() error { _, err := host.Page(t.Context(), "models", nil); return err },
			"Record": func() error { _, err := host.Record(t.Context(), promptID); return err },
		} {
			if err := ask(); err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "a file's spelling", host.Spelling("A", "b", `c\d`), `c\d`)
	})
}

func TestAHistoryThatIsNoneHasNoRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{"GET /history/" + promptID: says(http.StatusOK, "<html>")}, comfy.Options{})
		if got, err := host.Record(t.Context(), promptID); err == nil || !strings.Contains(err.Error(), "not one of ComfyUI's") {
			t.Errorf("%s, %v", got, err)
		}
	})
}

func TestWhatIsStoppedSaysWhatHasStoppedIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, http.HandlerFunc(silent), comfy.Options{})
		cause := errors.New("cancelled by acme")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := host.PutCached(ctx, "a", strings.NewReader("x")); !errors.Is(err, cause) {
			t.Errorf("a picture: %v", err)
		}
		body, _, _, err := host.Open(ctx, comfy.Output{Node: "1", Filename: "1_00001_.png", Subfolder: "comfyherd/" + promptID, Type: comfy.Websocket})
		if !errors.Is(err, cause) {
			t.Errorf("%v, %v", body, err)
		}
	})
}

// Whether a folder is on this machine is asked again when the file that shows it could not be written.
func TestAFolderThatCouldNotBeProvenIsTriedAgain(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	mine := filepath.Join(base, "output", "comfyherd", promptID)
	if err := os.MkdirAll(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	answers := onDisk(t, base, []string{"main.py", "--base-directory", base})
	stores := answers["POST /upload/image"]
	answers["POST /upload/image"] = func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		says(http.StatusForbidden, "")(w, r)
	}
	host := serve(t, answers)
	if err := host.Clear(within(t), promptID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a folder that is not proven was deleted: %v", err)
	}
	answers["POST /upload/image"] = stores
	if err := host.Clear(within(t), promptID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is proven by now stays: %v", err)
	}
}
