package comfy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// relayed runs a prompt and gives its frames, text as it came and of binary ones how many bytes they have.
func relayed(t *testing.T, send func(conn *websocket.Conn, prompt string)) (frames []string, pictures int) {
	t.Helper()
	r := showing(t, outputNodes, send)
	p := promptOf(t, map[string]any{"1": node("SaveImageWebsocket", nil), "2": node("KSampler", nil)})
	p.ID = promptID
	_, err := r.run(p, comfy.Watch{Frame: func(f comfy.Frame) {
		text := string(f.Data)
		if f.Binary {
			text = fmt.Sprintf("%d bytes", len(f.Data))
		}
		if f.Picture {
			pictures++
		}
		frames = append(frames, text)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return frames, pictures
}

func TestFramesComeAsTheyWereSentAndWithoutTheEnd(t *testing.T) {
	t.Parallel()
	plain := func(conn *websocket.Conn, text string) { _ = conn.WriteMessage(websocket.TextMessage, []byte(text)) }
	got, pictures := relayed(t, func(conn *websocket.Conn, prompt string) {
		for _, text := range []string{
			`{"type": "execution_start", "data": {"prompt_id": "` + prompt + `", "timestamp": 1}}`,
			`{"type": "executing", "data": {"node": "2", "prompt_id": "another"}}`,
			`{"type": "crystools.monitor", "data": {"cpu": NaN}}`,
			`{"type": "feature_flags", "data": {}}`, `{"type": "logs", "data": {}}`, `{"type": "assets.seed.started", "data": {}}`, `{"type": "status", "data": {}}`,
			`{"type": "executing", "data": {"node": "1", "prompt_id": "` + prompt + `"}}`,
		} {
			plain(conn, text)
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, []byte("\x00\x00\x00\x03\x00\x00\x00\x012hello")) // a text of node 2
		show(conn, prompt, "1", "image/png", []byte("picture"))
		show(conn, "another", "1", "image/png", []byte("picture"))
		show(conn, prompt, "2", "image/jpeg", []byte("preview"))
		tell(conn, "executing", prompt, `,"node":null`)
		tell(conn, "execution_success", prompt, "")
	})
	want := []string{
		`{"type": "execution_start", "data": {"prompt_id": "` + promptID + `", "timestamp": 1}}`,
		`{"type": "crystools.monitor", "data": {"cpu": NaN}}`,
		`{"type": "executing", "data": {"node": "1", "prompt_id": "` + promptID + `"}}`,
		"14 bytes",
		fmt.Sprintf("%d bytes", 8+len(`{"node_id":"1","display_node_id":"1","prompt_id":"`+promptID+`","image_type":"image/png"}picture`)),
		fmt.Sprintf("%d bytes", 8+len(`{"node_id":"2","display_node_id":"2","prompt_id":"`+promptID+`","image_type":"image/jpeg"}preview`)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if pictures != 2 { // the text came while the node that sends pictures ran
		t.Errorf("%d frames must not be dropped, want 2", pictures)
	}
}

// progress_state repeats all nodes with every tick.
func TestOfManyStatesOfProgressTheLastBeforeAResultIsRelayed(t *testing.T) {
	t.Parallel()
	got, _ := relayed(t, func(conn *websocket.Conn, prompt string) {
		tell(conn, "execution_start", prompt, "")
		for n := range 50 {
			if n == 20 {
				tell(conn, "executed", prompt, `,"node":"2","output":null`)
			}
			tell(conn, "progress_state", prompt, fmt.Sprintf(`,"nodes":{"2":{"value":%d}}`, n))
		}
		show(conn, prompt, "1", "image/png", []byte("picture"))
		tell(conn, "execution_success", prompt, "")
	})
	var story []string
	states := 0
	for _, text := range got {
		var m struct {
			Type string
			Data struct {
				Nodes map[string]struct{ Value int }
			}
		}
		if json.Unmarshal([]byte(text), &m) != nil {
			continue
		}
		if m.Type == "progress_state" {
			states++
			m.Type = fmt.Sprint(m.Data.Nodes["2"].Value)
		}
		story = append(story, m.Type)
	}
	told := strings.Join(story, " ")
	if !strings.Contains(told, "19 executed") || story[len(story)-1] != "49" || states > 20 {
		t.Errorf("relayed: %s", told)
	}
}

func TestTheRecordOfAPromptIsItsEntryInTheHistory(t *testing.T) {
	t.Parallel()
	entry := `{"` + promptID + `": {"outputs": {"9": {"score": [NaN]}}}}`
	host := serve(t, routes{
		"GET /history/" + promptID: says(http.StatusOK, entry), "GET /history/other": says(http.StatusOK, `{}`), "GET /history/raises": says(http.StatusInternalServerError, `{}`),
		"GET /models/loras": says(http.StatusOK, `["a"]`),
	})
	if got, err := host.Record(within(t), promptID); err != nil || string(got) != entry {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := host.Record(within(t), "other"); err != nil || got != nil {
		t.Errorf("an unknown prompt: %s, %v", got, err)
	}
	if _, err := host.Record(within(t), "raises"); err == nil {
		t.Error("a history that cannot be read has a record")
	}
	page, err := host.Page(within(t), "/models/loras", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	if page.Status != http.StatusOK || !slices.Contains([]int64{-1, 5}, page.Size) {
		t.Errorf("the page is %+v", page)
	}
}
