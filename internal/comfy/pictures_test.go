package comfy_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func readAll(t *testing.T, h *comfy.Host, o comfy.Output) (content []byte, contentType string) {
	t.Helper()
	body, contentType, size, err := h.Open(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	content, err = io.ReadAll(body)
	if err != nil || size >= 0 && size != int64(len(content)) {
		t.Fatalf("%d bytes of %d, %v", len(content), size, err)
	}
	return content, contentType
}

// batch sends so many pictures over the websocket.
func batch(t *testing.T, n, size int) comfy.Prompt {
	t.Helper()
	return promptOf(t, map[string]any{
		"1": node("EmptyImage", map[string]any{"width": size, "height": size, "batch_size": n, "color": 255}),
		"9": node("SaveImageWebsocket", map[string]any{"images": link("1")}),
	})
}

func TestPicturesThatComeOverTheWebsocketAreOutputs(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "0.3.40"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{Version: version})
			p := batch(t, 8, 64)
			result, err := r.run(p, comfy.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Outputs) != 8 || result.Missing {
				t.Fatalf("%+v", result)
			}
			for i, o := range result.Outputs {
				want := comfy.Output{Node: "9", Media: "images", Filename: fmt.Sprintf("9_%05d_.png", i+1), Subfolder: "comfyherd/" + p.ID, Type: comfy.Websocket}
				if diff := cmp.Diff(want, o); diff != "" {
					t.Error(diff)
				}
				content, contentType := readAll(t, r.host, o)
				picture, err := png.Decode(bytes.NewReader(content))
				if err != nil || picture.Bounds().Dx() != 64 || contentType != "image/png" {
					t.Errorf("%s: %v", contentType, err)
				}
			}
			r.host.Discard(p.ID)
			if _, _, _, err := r.host.Open(within(t), result.Outputs[0]); failure.KindOf(err) != failure.Lost {
				t.Errorf("a picture that was dropped: %v", err)
			}
		})
	}
}

func TestPicturesThatNobodyHeardAreNotASuccess(t *testing.T) {
	t.Parallel()
	r := simulateDeaf(t, comfysim.Config{}, quick())
	_, err := r.run(batch(t, 2, 64), comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Lost || f.Exception != "pictures_lost" || f.Node != "9" {
		t.Errorf("ends as %v", err)
	}
}

// showing is a ComfyUI of which the test writes every message, and whose one prompt has ended well without outputs.
func showing(t *testing.T, info string, send func(conn *websocket.Conn, prompt string)) rig {
	t.Helper()
	ended := make(chan string, 1)
	posted := make(chan string, 1)
	o := quick()
	o.QuietTime = 5 * time.Second // a slow machine takes its time for large pictures
	host := serveWith(t, routes{
		"GET /ws": func(w http.ResponseWriter, r *http.Request) {
			upgrader := websocket.Upgrader{}
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			status := []byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}},"sid":"x"}}`)
			_ = conn.WriteMessage(websocket.TextMessage, status)
			select {
			case id := <-posted:
				_ = conn.WriteMessage(websocket.TextMessage, status) // without it the socket counts as silent after 1.5 s
				send(conn, id)
				ended <- id
			case <-r.Context().Done():
			}
			_, _, _ = conn.ReadMessage() // the greeting
			_, _, _ = conn.ReadMessage()
		},
		"GET /object_info": says(http.StatusOK, info),
		"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
			var d struct {
				ID string `json:"prompt_id"`
			}
			if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
				t.Error(err)
			}
			posted <- d.ID
			accepts(d.ID)(w, r)
		},
		"GET /queue": func(w http.ResponseWriter, r *http.Request) { // while the pictures come, it runs
			select {
			case id := <-ended:
				ended <- id
				says(http.StatusOK, emptyQueue)(w, r)
			default:
				says(http.StatusOK, `{"queue_running": [[0, "`+promptID+`", {}, {}, []]], "queue_pending": []}`)(w, r)
			}
		},
		"GET /history/" + promptID: func(w http.ResponseWriter, r *http.Request) {
			select {
			case id := <-ended:
				ended <- id
				says(http.StatusOK, `{"`+promptID+`": {"outputs": {}, "status": {"status_str": "success", "completed": true, "messages": []}}}`)(w, r)
			default:
				says(http.StatusOK, `{}`)(w, r)
			}
		},
	}, o)
	return listen(t, host)
}

func tell(conn *websocket.Conn, kind, prompt, rest string) {
	_ = conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":%q,"data":{"prompt_id":%q%s}}`, kind, prompt, rest))
}

func show(conn *websocket.Conn, prompt, node, contentType string, content []byte) {
	meta := fmt.Appendf(nil, `{"node_id":%q,"display_node_id":%[1]q,"prompt_id":%q,"image_type":%q}`, node, prompt, contentType)
	frame := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 4), uint32(len(meta)))
	_ = conn.WriteMessage(websocket.BinaryMessage, append(append(frame, meta...), content...))
}

const outputNodes = `{"SaveImageWebsocket": {"input": {}, "output_node": true}, "ETN_SendImageWebSocket": {"input": {}, "output_node": true},
	"SendPNG": {"input": {}, "output_node": true}, "KSampler": {"input": {}, "output_node": false}}`

func TestWhichFramesArePicturesIsDecidedByTheirNode(t *testing.T) {
	t.Parallel()
	r := showing(t, outputNodes, func(conn *websocket.Conn, prompt string) {
		tell(conn, "execution_start", prompt, "")
		for _, frame := range [][3]string{{"3", "image/png", "sampling"}, {"1", "image/png", "first"}, {"4", "image/png", "of an output node"}, {"4", "image/jpeg", "preview"}, {"2", "image/jpeg", "second"}} {
			tell(conn, "executing", prompt, `,"node":"`+frame[0]+`"`)
			show(conn, prompt, frame[0], frame[1], []byte(frame[2]))
		}
		tell(conn, "execution_success", prompt, "")
	})
	if _, err := r.host.Capability(within(t), nil); err != nil {
		t.Fatal(err)
	}
	p := promptOf(t, map[string]any{"1": node("SaveImageWebsocket", nil), "2": node("ETN_SendImageWebSocket", nil), "3": node("KSampler", nil), "4": node("SendPNG", nil)})
	p.ID = promptID
	result, err := r.run(p, comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range result.Outputs {
		content, contentType := readAll(t, r.host, o)
		got = append(got, o.Filename+" "+contentType+" "+string(content))
	}
	want := []string{"1_00001_.png image/png first", "4_00001_.png image/png of an output node", "2_00001_.jpg image/jpeg second"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPicturesThatAreMissingAmongOthersAreNotASuccess(t *testing.T) {
	t.Parallel()
	r := showing(t, outputNodes, func(conn *websocket.Conn, prompt string) {
		tell(conn, "executing", prompt, `,"node":"1"`)
		show(conn, prompt, "1", "image/png", []byte("first"))
		tell(conn, "progress", prompt, `,"node":"1","value":0,"max":3`)
		tell(conn, "execution_success", prompt, "")
	})
	p := promptOf(t, map[string]any{"1": node("SaveImageWebsocket", nil)})
	p.ID = promptID
	_, err := r.run(p, comfy.Watch{})
	if f := failure.As(err); f == nil || f.Exception != "pictures_lost" || !strings.Contains(f.Message, "only 1 of 3") {
		t.Errorf("ends as %v", err)
	}
}

func TestManyPicturesAreKeptInAFileByteForByte(t *testing.T) {
	t.Parallel()
	picture := func(i int) []byte { return bytes.Repeat([]byte{byte(i), 7, 9}, 500_000) }
	r := showing(t, outputNodes, func(conn *websocket.Conn, prompt string) {
		tell(conn, "executing", prompt, `,"node":"1"`)
		for i := range 6 { // 9 MB
			show(conn, prompt, "1", "image/png", picture(i))
		}
		tell(conn, "execution_success", prompt, "")
	})
	p := promptOf(t, map[string]any{"1": node("SaveImageWebsocket", nil)})
	p.ID = promptID
	result, err := r.run(p, comfy.Watch{})
	if err != nil || len(result.Outputs) != 6 {
		t.Fatalf("%+v, %v", result, err)
	}
	for i, o := range result.Outputs {
		if content, _ := readAll(t, r.host, o); !bytes.Equal(content, picture(i)) {
			t.Errorf("picture %d has changed", i)
		}
	}
	r.host.Discard(p.ID)
}

func TestPathsThatANodeShowsAreFiles(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	result, err := r.run(promptOf(t, map[string]any{"1": empty(1), "9": node("SimPreview3D", map[string]any{"images": link("1"), "filename_prefix": "mesh/x"})}), comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]comfy.Output{{Node: "9", Media: "result", Filename: "x_00001_.glb", Subfolder: "mesh", Type: "output"}}, result.Outputs); diff != "" {
		t.Fatal(diff)
	}
	if content, _ := readAll(t, r.host, result.Outputs[0]); !bytes.HasPrefix(content, []byte("glTF")) {
		t.Errorf("%q", content)
	}
}

func TestStringsOfAResultAreFilesOrTexts(t *testing.T) {
	t.Parallel()
	const body = `{"` + promptID + `": {"outputs": {
		"9": {"result": ["mesh/x_00001_.glb", {"position": 1}, "temp/bg_1.png"]}, "10": {"result": ["a cat. It sat.", "gone.png", 5]}, "11": {"result": ["y.glb [temp]"]}},
		"status": {"status_str": "success", "completed": true, "messages": []}}}`
	there := map[string]bool{"output/mesh/x_00001_.glb": true, "temp//bg_1.png": true, "temp//y.glb": true}
	host := serve(t, routes{
		"GET /history/" + promptID: says(http.StatusOK, body), "GET /queue": says(http.StatusOK, emptyQueue), "POST /prompt": accepts(promptID),
		"HEAD /view": func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if !there[q.Get("type")+"/"+q.Get("subfolder")+"/"+q.Get("filename")] {
				w.WriteHeader(http.StatusNotFound)
			}
		},
	})
	got, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	want := []comfy.Output{
		{Node: "9", Media: "result", Filename: "x_00001_.glb", Subfolder: "mesh", Type: "output"},
		{Node: "9", Media: "result", Filename: "bg_1.png", Type: "temp"},
		{Node: "11", Media: "result", Filename: "y.glb", Type: "temp"},
	}
	if diff := cmp.Diff(want, got.Outputs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string][]string{"10": {"a cat. It sat.", "5", "gone.png"}}, got.Texts); diff != "" {
		t.Error(diff)
	}
}

func TestTextsAreWhole(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	long := strings.Repeat("ein Satz, ", 30_000) // 300 kB
	result, err := r.run(promptOf(t, map[string]any{"1": node("SimText", map[string]any{"text": long}), "9": node("PreviewAny", map[string]any{"source": link("1")})}), comfy.Watch{})
	if err != nil || len(result.Texts["9"]) != 1 || result.Texts["9"][0] != long || result.Missing {
		t.Errorf("%d texts, %v", len(result.Texts["9"]), err)
	}
}

func TestABlockedOutputSaysWhyAndThatNothingCame(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	result, err := r.run(promptOf(t, map[string]any{
		"1": empty(1), "5": node("SimBlock", map[string]any{"image": link("1"), "message": "nope"}),
		"6": node("ImageInvert", map[string]any{"image": link("5")}), "9": node("SaveImage", map[string]any{"images": link("6"), "filename_prefix": "a"}),
	}), comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"node 6 (ImageInvert) was not run: nope"}, result.Blocked); diff != "" || !result.Missing || len(result.Outputs) > 0 {
		t.Errorf("%+v", result)
	}
}

func TestAResultOfAPromptThatNeverWasIsNotFound(t *testing.T) {
	t.Parallel()
	host := serve(t, routes{})
	_, _, _, err := host.Open(within(t), comfy.Output{Node: "9", Filename: "9_00001_.png", Subfolder: "comfyherd/" + uuid.NewString(), Type: comfy.Websocket})
	if failure.KindOf(err) != failure.Lost {
		t.Errorf("%v", err)
	}
}
