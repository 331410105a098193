package comfy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// left is the record of a prompt that was given a file and has left others, one of which is not its own.
var left = says(http.StatusOK, `{"status": "completed", "workflow": {"prompt": {
	"1": {"class_type": "LoadImage", "inputs": {"image": "comfyherd/`+promptID+`/0-cat.png", "other": "comfyherd/`+secondID+`/dog.png", "n": 5}}}},
	"outputs": {"2": {"images": [
		{"filename": "a.png", "subfolder": "comfyherd/`+promptID+`/sub", "type": "output"}, {"filename": "a.png", "subfolder": "comfyherd/`+promptID+`/sub", "type": "output"},
		{"filename": "b.png", "subfolder": "comfyherd/`+promptID+`", "type": "temp"}, {"filename": "c.png", "subfolder": "", "type": "output"}]}}}`)

// emptied are the files for which a host was asked, and those that were overwritten, with what an upload contained.
func emptied(log []string) (asked int, names []string) {
	for _, one := range log {
		if strings.Contains(one, "HEAD /view") {
			asked++
		}
		if _, form, is := strings.Cut(one, "POST /upload/image "); is {
			part := func(name string) string {
				_, rest, _ := strings.Cut(form, name+"\r\n")
				if _, body, header := strings.Cut(rest, "\r\n\r\n"); header && !strings.HasPrefix(rest, "\r\n") {
					rest = body
				}
				value, _, _ := strings.Cut(strings.TrimPrefix(rest, "\r\n"), "\r\n")
				return value
			}
			_, file, _ := strings.Cut(form, `filename="`)
			file, _, _ = strings.Cut(file, `"`)
			names = append(names, fmt.Sprintf("%s/%s/%s %s", part(`name="type"`), part(`name="subfolder"`), file, part(`name="overwrite"`)))
		}
	}
	slices.Sort(names)
	return asked, names
}

func TestClearEmptiesWhatTheRecordNamesOnce(t *testing.T) {
	t.Parallel()
	ok := says(http.StatusOK, `{"name": "x"}`)
	const own = "/comfyherd/" + promptID
	all := []string{"input" + own + "/0-cat.png true", "output" + own + "/sub/a.png true", "temp" + own + "/b.png true"}
	for name, c := range map[string]struct {
		head, put http.HandlerFunc
		want      []string
		fails     string
	}{
		"There":        {headers("", "", "7"), ok, all, ""},
		"EmptyAlready": {headers("", "", "0"), ok, nil, ""},
		"NotThere":     {says(http.StatusNotFound, ""), ok, nil, ""},
		"NoRoom":       {headers("", "", "7"), says(http.StatusInternalServerError, troubled), all, ""}, // an empty file takes none
		"CannotAsk":    {says(http.StatusForbidden, ""), ok, nil, "/view answers HTTP 403 Forbidden"},
		"CannotWrite":  {headers("", "", "7"), says(http.StatusForbidden, ""), nil, "/upload/image answers HTTP 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, b := inBubble(t, routes{"GET " + jobPath: left, "HEAD /view": c.head, "POST /upload/image": c.put}, comfy.Options{})
				err := host.Clear(t.Context(), promptID)
				if c.fails != "" {
					if want := "clear the files of prompt " + promptID + " on " + address + ": " + c.fails; err == nil || err.Error() != want {
						t.Errorf("ends as %v, want %s", err, want)
					}
					return
				}
				if err != nil {
					t.Error(err)
				}
				asked, names := emptied(b.log())
				same(t, "asked for", asked, 3)
				same(t, "emptied", names, c.want)
			})
		})
	}
}

// A prompt's files are emptied although ComfyUI has no record of it, when this process has uploaded or seen them.
func TestClearEmptiesWhatWasUploadedUntilThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, b := inBubble(t, routes{"GET " + jobPath: noJob, "HEAD /view": headers("", "", "7"), "POST /upload/image": says(http.StatusOK, `{"name": "cat (1).png", "subfolder": "comfyherd\\`+promptID+`"}`)}, comfy.Options{})
		name, err := host.Upload(t.Context(), "cat.png", "comfyherd/"+promptID, strings.NewReader("x"))
		same(t, "name", name, "comfyherd/"+promptID+"/cat (1).png")
		if err != nil {
			t.Error(err)
		}
		b.log()
		for i, want := range [][]string{{"input/comfyherd/" + promptID + "/cat (1).png true"}, nil} {
			if err := host.Clear(t.Context(), promptID); err != nil {
				t.Error(err)
			}
			_, names := emptied(b.log())
			same(t, fmt.Sprint("emptied at time ", i+1), names, want)
		}
	})
}

// Nothing is asked over HTTP about folders that are on this machine.
func TestClearAsksNothingAboutWhatItHasDeleted(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for _, kind := range []string{"output", "temp", "input"} {
		if err := os.MkdirAll(filepath.Join(base, kind, "comfyherd", promptID), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		answers := onDisk(t, base, []string{"main.py", "--base-directory", base})
		answers["GET "+jobPath], answers["HEAD /view"] = left, headers("", "", "7")
		host, b := inBubble(t, answers, comfy.Options{})
		for range 2 { // where the folders are is found out once
			if err := host.Clear(t.Context(), promptID); err != nil {
				t.Error(err)
			}
		}
		asked := map[string]int{}
		for _, one := range b.log() {
			asked[strings.Join(strings.Fields(one)[1:3], " ")]++
		}
		same(t, "asked", asked, map[string]int{"GET /system_stats": 3, "GET /internal/folder_paths": 3, "POST /upload/image": 3})
		if left, err := os.ReadDir(filepath.Join(base, "output", "comfyherd")); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
		// A folder that is gone is not on this machine any more.
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
		if err := host.Clear(t.Context(), promptID); err != nil {
			t.Error(err)
		}
		_, names := emptied(b.log())
		same(t, "emptied over HTTP", len(names) > 0, true)
	})
}

func TestFoldersOfComfyUIAreLookedForWhereItsOptionsSay(t *testing.T) {
	t.Parallel()
	const paths = `{"custom_nodes": ["/opt/comfy/custom_nodes"], "checkpoints": ["/data/models/checkpoints"]}`
	for name, c := range map[string]struct {
		argv, kind string
		want       []string
	}{
		"None":           {``, "output", []string{"/data/output", "/opt/comfy/output"}[:0]},
		"Paths":          {`"main.py"`, "output", []string{"/data/output", "/opt/comfy/output"}},
		"Base":           {`"main.py", "--base-directory", "/base"`, "input", []string{"/base/input", "/data/input", "/opt/comfy/input"}},
		"BaseByEquals":   {`"--base-directory=/base"`, "input", []string{"/base/input", "/data/input", "/opt/comfy/input"}},
		"BaseIsCutOff":   {`"main.py", "--base-directory"`, "input", []string{"/data/input", "/opt/comfy/input"}},
		"Given":          {`"--output-directory", "/out"`, "output", []string{"/out"}},
		"GivenForOthers": {`"--output-directory", "/out"`, "input", []string{"/data/input", "/opt/comfy/input"}},
		"Temp":           {`"--temp-directory", "/tmp/x"`, "temp", []string{"/tmp/x/temp"}},
		"Relative":       {`"--output-directory", "out"`, "output", []string{"/data/out", "/opt/comfy/out"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{"GET /system_stats": says(http.StatusOK, `{"system": {"argv": [`+c.argv+`]}}`), "GET /internal/folder_paths": says(http.StatusOK, paths)}
				if name == "None" {
					answers["GET /system_stats"] = says(http.StatusForbidden, "")
				}
				host, _ := inBubble(t, answers, comfy.Options{})
				got := comfy.Candidates(t.Context(), host, c.kind)
				same(t, "folders", append([]string{}, got...), c.want)
			})
		})
	}
}

// Small probes that fail on their way say which of their steps did.
func TestTheProbeOfRoomSaysWhichStepFailed(t *testing.T) {
	t.Parallel()
	ok, barred := says(http.StatusOK, `{}`), says(http.StatusForbidden, "")
	for name, c := range map[string]struct {
		third http.HandlerFunc
		first http.HandlerFunc
		want  string
		puts  int
	}{
		"Well":   {ok, ok, "", 3},
		"Write":  {ok, barred, "write to the output folder of " + address + ": /upload/image answers HTTP 403 Forbidden", 2}, // it is emptied all the same
		"Empty":  {barred, ok, "empty a file in the output folder of " + address + ": /upload/image answers HTTP 403 Forbidden", 3},
		"NoRoom": {says(http.StatusInternalServerError, troubled), ok, "", 3}, // it could be written
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				puts := 0
				host, _ := inBubble(t, routes{"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
					if puts++; puts == 3 {
						c.third(w, r)
						return
					}
					c.first(w, r)
				}}, comfy.Options{})
				err := host.ProbeRoom(t.Context())
				said := ""
				if err != nil {
					said = err.Error()
				}
				same(t, "error", said, c.want)
				same(t, "puts", puts, c.puts)
			})
		})
	}
}

// A reading of /object_info keeps ComfyUI busy, so that its silence is no sign for as long as it lasts.
func TestNothingIsSilentWhileTheObjectInfoIsRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(w http.ResponseWriter, r *http.Request) {
			pass(10 * time.Minute)
			says(http.StatusOK, `{}`)(w, r)
		}
		broken := after(time.Second, job("in_progress"), after(10*time.Minute, breaks, jobDone))
		host, _ := inBubble(t, routes{"POST /prompt": accepts(promptID), "GET /object_info": slow, "GET " + jobPath: broken, "GET /internal/logs/raw": breaks}, comfy.Options{})
		read := make(chan error, 1)
		go func() {
			_, err := host.Capability(t.Context(), nil)
			read <- err
		}()
		synctest.Wait()
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Error(err)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}
