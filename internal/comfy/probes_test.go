package comfy_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestTheSubmitProbeSaysWhatStandsBeforeComfyUI(t *testing.T) {
	t.Parallel()
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>log in</html>"))
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string // empty: ComfyUI answers
	}{
		"ComfyUI":    {says(http.StatusBadRequest, `{"error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}, "node_errors": {}}`), ""},
		"OldComfyUI": {says(http.StatusBadRequest, `{"error": "Prompt has no outputs", "node_errors": []}`), ""},
		"Password":   {says(http.StatusUnauthorized, ""), "user and password"},
		"Firewall":   {page(http.StatusForbidden), "firewall"},
		"Login":      {page(http.StatusOK), "login page"},
		"Redirect":   {says(http.StatusFound, ""), "points elsewhere"},
		"Page400":    {page(http.StatusBadRequest), "web page"},
		"OtherJSON":  {says(http.StatusBadRequest, `{"error": "blocked"}`), "not ComfyUI's"},
		"NoComfyUI":  {says(http.StatusMethodNotAllowed, ""), "path prefix"},
		"Gateway":    {page(http.StatusBadGateway), "proxy answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := serve(t, routes{"POST /prompt": c.answer}).ProbeSubmit(within(t))
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestAProxyThatDislikesAJobIsToldFromOneThatLetsNothingPass(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultProxy, Text: "DROP TABLE"}}})
	graph := map[string]any{"1": node("SimText", map[string]any{"text": "DROP TABLE"}), "9": node("PreviewAny", map[string]any{"source": link("1")})}
	_, err := r.run(promptOf(t, graph), comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Refused || f.Exception != comfy.Foreign {
		t.Errorf("ends as %v", err)
	}
	if err := r.host.ProbeSubmit(within(t)); err != nil {
		t.Errorf("the host is barred: %v", err)
	}
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultProxy})
	if err := r.host.ProbeSubmit(within(t)); err == nil {
		t.Error("the host is not barred")
	}
	r.sim.ClearFaults()
	if err := r.host.ProbeSubmit(within(t)); err != nil {
		t.Errorf("the host stays barred: %v", err)
	}
}

func TestAFullDiskIsFoundAndRoomAgainToo(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	if err := r.host.ProbeRoom(within(t)); err != nil {
		t.Fatal(err)
	}
	r.sim.FillDisk()
	if err := r.host.ProbeRoom(within(t)); !errors.Is(err, comfy.ErrNoRoom) {
		t.Errorf("on a full disk it says %v", err)
	}
	_, err := r.run(picture(1), comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.HostSick || f.Cause != failure.DiskFull || f.Node != "2" || f.Class != "SaveImage" {
		t.Errorf("a prompt ends as %v", err)
	}
	_, err = r.host.Upload(within(t), "cat.png", "x", strings.NewReader("cat"))
	if f := failure.As(err); f == nil || f.Kind != failure.HostSick || f.Cause != failure.DiskFull {
		t.Errorf("an upload ends as %v", err)
	}
	r.sim.MakeRoom()
	if err := r.host.ProbeRoom(within(t)); err != nil {
		t.Errorf("with room again it says %v", err)
	}
	if got := r.sim.Files("output"); len(got) != 1 || got[0] != "comfyherd/room.bin" {
		t.Errorf("it leaves %q", got)
	}
}

func TestAnUploadThatOneNameCannotTakeIsNotTheHosts(t *testing.T) {
	t.Parallel()
	host := serve(t, routes{"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
		_, header, err := r.FormFile("image")
		if err != nil || header.Filename != "room.bin" {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("500 Internal Server Error\n\nServer got itself in trouble"))
			return
		}
		says(http.StatusOK, `{"name": "room.bin", "subfolder": "comfyherd", "type": "input"}`)(w, r)
	}})
	_, err := host.Upload(within(t), "smile😀.png", "x", strings.NewReader("cat"))
	if failure.KindOf(err) != failure.Refused {
		t.Errorf("ends as %v", err)
	}
}

func TestTheProcessIsKnownOverAgentsAndAnotherAfterARestart(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	process := func(h *comfy.Host) string {
		t.Helper()
		id, err := h.Process(within(t))
		if err != nil || id == "" {
			t.Fatalf("%q, %v", id, err)
		}
		return id
	}
	first := process(r.host)
	if again := process(open(t, r.sim.URL())); again != first {
		t.Errorf("another agent says %s of %s", again, first)
	}
	r.sim.Kill()
	if err := r.sim.Restart(); err != nil {
		t.Fatal(err)
	}
	if second := process(open(t, r.sim.URL())); second == first {
		t.Error("the process is the same after a restart")
	}
}

// Two ComfyUIs of one checkout share the folder for temporary files, which each empties when it starts.
func TestTheProcessIsTheSameWhileItsSocketIsOpen(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	first, err := r.host.Process(within(t))
	if err != nil {
		t.Fatal(err)
	}
	files := r.sim.Files("temp")
	if len(files) != 1 {
		t.Fatalf("%q", files)
	}
	r.sim.RemoveFile("temp", files[0])
	if again, err := r.host.Process(within(t)); again != first || err != nil {
		t.Errorf("%s, %v, want %s", again, err, first)
	}
	if again, err := open(t, r.sim.URL()).Process(within(t)); again != first || err != nil {
		t.Errorf("another agent says %s, %v, want %s", again, err, first)
	}
}

func TestClearEmptiesThePromptsOwnFilesAndNoOthers(t *testing.T) {
	t.Parallel()
	for name, forgets := range map[string]bool{"Remembered": false, "ByAnotherAgent": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{})
			other := picture(1)
			if _, err := r.run(other, comfy.Watch{}); err != nil {
				t.Fatal(err)
			}
			id := uuid.NewString()
			name, err := r.host.Upload(within(t), "cat.png", "comfyherd/"+id, strings.NewReader(pixel))
			if err != nil {
				t.Fatal(err)
			}
			p := promptOf(t, map[string]any{"1": node("LoadImage", map[string]any{"image": name}), "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": "comfyherd/" + id + "/sub/a"})})
			p.ID = id
			if _, err := r.run(p, comfy.Watch{}); err != nil {
				t.Fatal(err)
			}
			host := r.host
			if forgets {
				host = open(t, r.sim.URL())
			}
			if err := host.Clear(within(t), id); err != nil {
				t.Fatal(err)
			}
			for file, empty := range map[comfy.Output]bool{
				{Type: "output", Subfolder: "comfyherd/" + id + "/sub", Filename: "a_00001_.png"}: true,
				{Type: "input", Subfolder: "comfyherd/" + id, Filename: "cat.png"}:                true,
				{Type: "output", Filename: "p1_00001_.png"}:                                       false,
			} {
				body, _, size, err := r.host.Open(within(t), file)
				if err != nil {
					t.Fatal(err)
				}
				body.Close()
				if (size == 0) != empty {
					t.Errorf("%+v has %d bytes", file, size)
				}
			}
		})
	}
}

// pixel is a PNG of one pixel.
const pixel = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"

func TestClearTakesOnlyPromptIDs(t *testing.T) {
	t.Parallel()
	host := serve(t, routes{})
	for _, id := range []string{"", "..", "../x", "x/" + uuid.NewString(), strings.ToUpper(uuid.NewString())} {
		if err := host.Clear(within(t), id); err == nil {
			t.Errorf("%q is cleared", id)
		}
	}
}

// What cannot be told is an error, and never an answer.
func TestAProbeThatComfyUIDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	one := says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`)
	raised := says(http.StatusInternalServerError, troubled)
	temp := func(t *testing.T, view, upload http.HandlerFunc) error {
		t.Helper()
		_, err := serve(t, routes{"GET /view": view, "POST /upload/image": upload}).Process(within(t))
		return err
	}
	for name, ask := range map[string]func() error{
		"NoExecInfo": func() error {
			_, err := serve(t, routes{"GET /prompt": says(http.StatusOK, "{}")}).Probe(within(t))
			return err
		},
		"NoJSON": func() error {
			_, err := serve(t, routes{"GET /prompt": says(http.StatusOK, "<html>")}).Probe(within(t))
			return err
		},
		"SurveyOfNobody": func() error { _, err := gone(t).Survey(within(t)); return err },
		"NoSystemStats":  func() error { _, err := serve(t, routes{"GET /prompt": one}).Survey(within(t)); return err },
		"Log":            func() error { _, _, err := serve(t, routes{"GET /internal/logs": raised}).Sick(within(t)); return err },
		"LogOfNobody":    func() error { _, _, err := gone(t).Sick(within(t)); return err },
		"Backlog": func() error {
			_, _, err := serve(t, routes{"GET /prompt": one, "GET /queue": raised}).Sick(within(t))
			return err
		},
		"Submit":        func() error { return gone(t).ProbeSubmit(within(t)) },
		"Room":          func() error { return gone(t).ProbeRoom(within(t)) },
		"Marker":        func() error { return temp(t, raised, nil) },
		"MarkerRefused": func() error { return temp(t, nil, says(http.StatusForbidden, "")) },
		"MarkerNotKept": func() error { return temp(t, nil, says(http.StatusOK, "{}")) },
		"Classes":       func() error { _, err := gone(t).Capability(within(t), nil); return err },
		"ClassesRaised": func() error {
			_, err := serve(t, routes{"GET /object_info": raised}).Capability(within(t), nil)
			return err
		},
		"Free":  func() error { return serve(t, routes{"POST /free": raised}).Free(within(t)) },
		"Clear": func() error { return gone(t).Clear(within(t), promptID) },
	} {
		if err := ask(); err == nil || errors.Is(err, comfy.ErrNoRoom) || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
