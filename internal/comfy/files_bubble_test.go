package comfy_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// oneFile is a ComfyUI that keeps one file, and the uploads of it.
type oneFile struct {
	t *testing.T

	mu      sync.Mutex
	content string   // empty: there is none
	uploads []string // what overwrite was in each
}

func (f *oneFile) answers() routes {
	return routes{
		"GET /view": func(w http.ResponseWriter, _ *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.content == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = w.Write([]byte(f.content))
		},
		"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
			file, _, err := r.FormFile("image")
			if err != nil {
				f.t.Error(err)
				return
			}
			content, err := io.ReadAll(file)
			if err != nil {
				f.t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.uploads = append(f.uploads, r.FormValue("overwrite"))
			if f.content == "" || r.FormValue("overwrite") == "true" {
				f.content = string(content)
			}
			says(http.StatusOK, `{"name": "x"}`)(w, r)
		},
	}
}

func (f *oneFile) put(content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = content
}

// While our socket is open the process is the same, whatever became of the file. After that the file alone decides.
func TestAProcessIsKnownByItsSocketAndElseByItsFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &oneFile{t: t}
		host, _ := inBubble(t, f.answers(), comfy.Options{})
		process := func() string {
			id, err := host.Process(t.Context())
			if err != nil {
				t.Error(err)
			}
			return id
		}
		f.put("no id")
		first := process()
		same(t, "overwrites", f.uploads, []string{"true"})
		socket, err := comfy.OpenSocket(host)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "with a socket", process(), first)
		f.put(secondID) // by another ComfyUI that shares the folder
		same(t, "with the id of another", process(), first)
		f.put("")
		same(t, "without a file", process(), first)
		same(t, "overwrites", f.uploads, []string{"true", "true", "false"})
		f.put("") // ComfyUI has emptied the folder at its start
		socket.FallSilent()
		if id, err := host.Process(t.Context()); err == nil {
			t.Errorf("the process is %s although it is not known whether it is the one of the socket", id)
		}
		same(t, "overwrites", f.uploads, []string{"true", "true", "false"})
		socket.Drop()
		second := process()
		if second == first {
			t.Error("the process is the same after a restart")
		}
		if socket, err = comfy.OpenSocket(host); err != nil {
			t.Fatal(err)
		}
		defer socket.Drop()
		same(t, "with another socket", process(), second)
		f.put(secondID)
		same(t, "with the id of another", process(), second)
	})
}

// ComfyUI's other folders are not ours, even when one is named like the prompt.
func TestClearRemembersOnlyFilesOfOurFolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := routes{
			"POST /prompt":   accepts(promptID),
			"GET " + jobPath: says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"images": [{"filename": "a.png", "subfolder": "`+promptID+`", "type": "output"}]}}}`),
			"HEAD /view":     headers(`"a"`, "", "7"),
		}
		host, b := inBubble(t, answers, comfy.Options{})
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Fatal(err)
		}
		b.log()
		answers["GET "+jobPath] = noJob
		if err := host.Clear(t.Context(), promptID); err != nil {
			t.Fatal(err)
		}
		if log := b.log(); slices.ContainsFunc(log, func(asked string) bool { return strings.Contains(asked, "/view") || strings.Contains(asked, "POST") }) {
			t.Errorf("asked: %q", log)
		}
	})
}

func TestACancelThatFailsSaysWhatComfyUIAnswered(t *testing.T) {
	t.Parallel()
	old := says(http.StatusNotFound, "404: Not Found")
	for name, c := range map[string]struct {
		cancel, interrupt http.HandlerFunc
		want              string
	}{
		"CancelBreaks":      {breaks, says(http.StatusOK, ""), "unexpected EOF"},
		"InterruptIsBarred": {old, says(http.StatusForbidden, ""), "/interrupt answers HTTP 403 Forbidden"},
		"InterruptBreaks":   {old, breaks, "unexpected EOF"},
		"ItGoesOn":          {old, says(http.StatusOK, ""), "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, routes{"GET " + jobPath: job("in_progress"), "POST " + jobPath + "/cancel": c.cancel, "POST /interrupt": c.interrupt}, comfy.Options{})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if err := host.Cancel(ctx, promptID); err == nil || !strings.Contains(err.Error(), "it is still running: ") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestAHostIsSurveyedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	one, stats := says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), says(http.StatusOK, `{"system": {"comfyui_version": "1"}}`)
	for name, answers := range map[string]routes{
		"NoBacklog":    {"GET /prompt": says(http.StatusInternalServerError, ""), "GET /system_stats": stats},
		"StatsBarred":  {"GET /prompt": one, "GET /system_stats": says(http.StatusForbidden, "")},
		"StatsNoJSON":  {"GET /prompt": one, "GET /system_stats": says(http.StatusOK, "<html>")},
		"StatsRefused": {"GET /prompt": one, "GET /system_stats": refuses},
	} {
		synctest.Test(t, func(t *testing.T) {
			host, _ := inBubble(t, answers, comfy.Options{})
			if p, err := host.Survey(t.Context()); err == nil || p != (comfy.Probe{}) {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		})
	}
}

// A host that cannot store a file of one name is asked whether it can store any, with a file that takes the place of the last one.
func TestAnInputThatMakesComfyUIRaiseIsTriedWithAnotherFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stored []string
		host, _ := inBubble(t, routes{"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
			_, header, err := r.FormFile("image")
			if err != nil {
				t.Error(err)
				return
			}
			stored = append(stored, header.Filename+" "+r.FormValue("overwrite"))
			if header.Filename == "cat.png" {
				says(http.StatusInternalServerError, troubled)(w, r)
				return
			}
			says(http.StatusOK, `{"name": "room.bin"}`)(w, r)
		}}, comfy.Options{})
		if _, err := host.Upload(t.Context(), "cat.png", "x", strings.NewReader("meow")); failure.KindOf(err) != failure.Refused {
			t.Error(err)
		}
		same(t, "stored", stored, []string{"cat.png false", "room.bin true"})
	})
}

// A result in our folder is emptied also when ComfyUI has no record of its prompt any more.
func TestClearEmptiesResultsThatNoRecordNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := routes{
			"POST /prompt": accepts(promptID), "GET " + jobPath: jobDone, "HEAD /view": headers(`"a"`, "", "7"), "POST /upload/image": says(http.StatusOK, `{"name": "x"}`),
		}
		host, b := inBubble(t, answers, comfy.Options{})
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Fatal(err)
		}
		b.log()
		answers["GET "+jobPath] = noJob
		for _, want := range [][]string{{"output/comfyherd/" + promptID + "/a.png true"}, nil} { // and then it is forgotten
			if err := host.Clear(t.Context(), promptID); err != nil {
				t.Fatal(err)
			}
			_, names := emptied(b.log())
			same(t, "emptied", names, want)
		}
	})
}
