package comfy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// onDisk is a ComfyUI whose folders lie under base, as far as uploads and the questions about folders go.
func onDisk(t *testing.T, base string, argv []string) routes {
	t.Helper()
	return routes{
		"GET /system_stats": func(w http.ResponseWriter, r *http.Request) {
			body, err := json.Marshal(map[string]any{"system": map[string]any{"argv": argv}})
			if err != nil {
				t.Error(err)
			}
			says(http.StatusOK, string(body))(w, r)
		},
		"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
			file, header, err := r.FormFile("image")
			if err != nil {
				t.Error(err)
				return
			}
			content, err := io.ReadAll(file)
			if err != nil {
				t.Error(err)
			}
			folder := filepath.Join(base, r.FormValue("type"), r.FormValue("subfolder"))
			if os.MkdirAll(folder, 0o755) != nil || os.WriteFile(filepath.Join(folder, header.Filename), content, 0o600) != nil {
				t.Error("cannot store an upload")
			}
			says(http.StatusOK, `{"name": "x"}`)(w, r)
		},
	}
}

func TestClearDeletesFoldersThatAreReachedOnThisMachine(t *testing.T) {
	t.Parallel()
	base, id, other := t.TempDir(), uuid.NewString(), uuid.NewString()
	for _, path := range []string{"output/comfyherd/" + id + "/sub/a.png", "temp/comfyherd/" + id + "/b.png", "input/comfyherd/" + id + "/c.png", "output/comfyherd/" + other + "/a.png", "output/" + id + "/a.png"} {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := serve(t, onDisk(t, base, []string{"main.py", "--base-directory", base}))
	if err := host.Clear(within(t), id); err != nil {
		t.Fatal(err)
	}
	for path, stays := range map[string]bool{
		"output/comfyherd/" + id: false, "temp/comfyherd/" + id: false, "input/comfyherd/" + id: false,
		"output/comfyherd/" + other + "/a.png": true, "output/" + id + "/a.png": true, "output/comfyherd/here.txt": false,
	} {
		if _, err := os.Stat(filepath.Join(base, path)); (err == nil) != stays {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A ComfyUI in a container may report paths that also exist on this machine and are other folders there.
func TestClearDeletesNothingWhereTheProofIsMissing(t *testing.T) {
	t.Parallel()
	elsewhere, here, id := t.TempDir(), t.TempDir(), uuid.NewString()
	mine := filepath.Join(here, "output", "comfyherd", id)
	if err := os.MkdirAll(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	all := onDisk(t, elsewhere, []string{"main.py", "--base-directory=" + here})
	all["GET /queue"] = says(http.StatusOK, emptyQueue)
	all["GET /history/"+id] = says(http.StatusOK, `{}`)
	if err := serve(t, all).Clear(within(t), id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// A folder that cannot be opened any more may be elsewhere now, such as that of a ComfyUI that was installed anew.
func TestAFolderThatHasMovedIsLookedForAgain(t *testing.T) {
	t.Parallel()
	before, now, id := t.TempDir(), t.TempDir(), uuid.NewString()
	answers := onDisk(t, before, []string{"main.py", "--base-directory", before})
	host, _ := inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers.ServeHTTP(w, r) }), comfy.Options{})
	clearAll := func() {
		if err := host.Clear(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	clearAll()
	for _, kind := range []string{"output", "temp", "input"} {
		if err := os.RemoveAll(filepath.Join(before, kind)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(now, kind, "comfyherd", id), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	answers = onDisk(t, now, []string{"main.py", "--base-directory", now})
	clearAll() // here it turns out
	clearAll()
	for _, kind := range []string{"output", "temp", "input"} {
		if _, err := os.Stat(filepath.Join(now, kind, "comfyherd", id)); err == nil {
			t.Errorf("a folder of %s is still there", kind)
		}
	}
}
