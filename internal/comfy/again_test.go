package comfy_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// Files in the prompt's own folder, inputs, and pictures in a node pack's memory need no proof by their version.
func TestWhatNoOtherPromptWritesNeedsNoProof(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cached, file string
		want         failure.Kind
	}{
		"OwnFolderCached": {`"2"`, `{"filename": "a.png", "subfolder": "comfyherd/` + promptID + `", "type": "output"}`, ""},
		"InputCached":     {`"2"`, `{"filename": "a.png", "subfolder": "", "type": "input"}`, ""},
		"OwnFolder":       {"", `{"filename": "a.png", "subfolder": "comfyherd/` + promptID + `/x", "type": "temp"}`, ""},
		"Memory":          {"", `{"source": "http", "id": "a-1"}`, ""},
		"MemoryCached":    {`"2"`, `{"source": "http", "id": "a-1"}`, failure.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				record := says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"images": [`+c.file+`]}},
					"execution_status": {"messages": [["execution_cached", {"nodes": [`+c.cached+`]}]]}}`)
				r := runs(t, routes{"GET " + jobPath: record, "POST /free": says(http.StatusForbidden, "")}, ours, comfy.Watch{}, nil)
				same(t, "kind", failure.KindOf(r.err), c.want)
				for _, asked := range r.log {
					if strings.Contains(asked, "HEAD") {
						t.Errorf("asked: %s", asked)
					}
				}
			})
		})
	}
}

// A host that tells no times proves its files by their versions alone.
func TestFilesOfARecordWithoutTimesAreProven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := func(cached string) http.HandlerFunc {
			return says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"images": [
				{"filename": "a.png", "subfolder": "", "type": "output"}, {"filename": "b.png", "subfolder": "", "type": "output"}]}},
				"execution_status": {"messages": [["execution_cached", {"nodes": [`+cached+`]}]]}}`)
		}
		host, b := inBubble(t, routes{
			"POST /prompt": acceptsAny, "GET " + jobPath: files(""), "GET /api/jobs/" + secondID: files(`"2"`),
			"HEAD /view": headers(`"a"`, "Sat, 28 Nov 2026 00:00:00 GMT", ""),
		}, comfy.Options{})
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Fatal(err)
		}
		result, err := host.Run(t.Context(), comfy.Prompt{ID: secondID, Workflow: []byte(graph)}, comfy.Watch{})
		if err != nil || len(result.Outputs) != 2 || result.Outputs[0].Version != `"a"` || result.Outputs[1].Version != `"a"` {
			t.Errorf("%+v, %v", result, err)
		}
		b.log()
	})
}

func TestAResumedPromptIsNotRunAgainForItsFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := ours
		p.Resume = true
		r := runs(t, routes{"GET " + jobPath: wrote(`"1", "2"`), "HEAD /view": headers(`"a"`, "", ""), "POST /free": says(http.StatusOK, "")}, p, comfy.Watch{}, nil)
		same(t, "kind", failure.KindOf(r.err), failure.Lost)
		for _, asked := range r.log {
			if strings.Contains(asked, "POST") {
				t.Errorf("asked: %s", asked)
			}
		}
	})
}

// A prompt that was run again for its files is told of as the first run was, but for its submit.
func TestTheSecondRunOfAPromptIsToldToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := routes{"POST /prompt": acceptsAny, "GET " + jobPath: wrote(`"1", "2"`), "HEAD /view": headers(`"a"`, "", ""), "POST /history": says(http.StatusOK, "")}
		again := make(chan struct{})
		answers["POST /free"] = func(w http.ResponseWriter, r *http.Request) {
			answers["GET "+jobPath] = after(2*time.Second, job("in_progress"), wrote(""))
			close(again)
			says(http.StatusOK, "")(w, r)
		}
		told := map[string]int{}
		w := comfy.Watch{
			Progress: func(p comfy.Progress) { told["progress of "+p.Node]++ }, Frame: func(comfy.Frame) { told["frame"]++ }, Running: func() { told["running"]++ },
		}
		r := runs(t, answers, ours, w, func(s comfy.Socket) {
			s.Says(`{"type":"execution_success","data":{"prompt_id":"` + promptID + `"}}`)
			<-again
			pass(time.Second)
			s.Says(`{"type":"executing","data":{"prompt_id":"` + promptID + `","node":"2"}}`)
			s.Says(`{"type":"execution_success","data":{"prompt_id":"` + promptID + `"}}`)
		})
		if r.err != nil {
			t.Fatal(r.err)
		}
		same(t, "told", told, map[string]int{"running": 1, "progress of 2": 1, "frame": 1})
	})
}

// A cache that cannot be dropped, or a first run that cannot be forgotten, leaves the first run's failure.
func TestAPromptIsNotRunAgainWhileItsCacheStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ free, history http.HandlerFunc }{
		"Cache":   {says(http.StatusForbidden, ""), says(http.StatusOK, "")},
		"History": {says(http.StatusOK, ""), says(http.StatusForbidden, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: wrote(`"1", "2"`), "HEAD /view": headers(`"a"`, "", ""), "POST /free": c.free, "POST /history": c.history}, ours, comfy.Watch{}, nil)
				same(t, "kind", failure.KindOf(r.err), failure.Lost)
				posts := 0
				for _, asked := range r.log {
					if strings.Contains(asked, " POST /prompt ") {
						posts++
					}
				}
				same(t, "posts", posts, 1)
			})
		})
	}
}
