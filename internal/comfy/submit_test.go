package comfy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// completed is the history of a prompt that left nothing.
func completed(id string) http.HandlerFunc {
	return says(http.StatusOK, `{"`+id+`": {"outputs": {}, "status": {"status_str": "success", "messages": []}}}`)
}

// What is looked up after a POST whose answer was lost may fail too.
func TestALostSubmitThatCannotBeLookedUpHasItsKind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		look http.HandlerFunc // nil: the port refuses connections by then
		want failure.Kind
		says string
	}{
		"Gone":     {nil, failure.HostLost, "ComfyUI is gone"},
		"Firewall": {says(http.StatusForbidden, "blocked"), failure.Lost, "check the proxy or firewall before ComfyUI"},
		"Running":  {says(http.StatusOK, fmt.Sprintf(`{"queue_running": [[0, %q, {}, {}, []]], "queue_pending": []}`, promptID)), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *httptest.Server
			var looks atomic.Int32
			server = httptest.NewServer(routes{
				"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
					if c.look == nil {
						_ = server.Listener.Close()
					}
					hangUp(t, w, r)
				},
				"GET /queue": func(w http.ResponseWriter, r *http.Request) {
					if looks.Add(1) > 1 && name == "Running" {
						says(http.StatusOK, emptyQueue)(w, r)
						return
					}
					c.look(w, r)
				},
				"GET /history/" + promptID: completed(promptID),
			})
			t.Cleanup(server.Close)
			_, err := open(t, server.URL).Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if f := failure.As(err); failure.KindOf(err) != c.want || f != nil && !strings.Contains(f.Message, c.says) {
				t.Errorf("ends as %v", err)
			}
		})
	}
}

// ComfyUI before 0.3.8 gives prompts ids of its own.
func TestAPromptThatComfyUIRenamesIsFollowedByItsNewName(t *testing.T) {
	t.Parallel()
	const other = "1591d20b-ec41-400d-ac88-1b5c18025624"
	heard := false
	posted := make(chan struct{})
	shown := make(chan struct{})
	host := serve(t, routes{
		"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
			<-posted
			tell(conn, "progress", other, `,"node":"1","value":1,"max":2`)
			untilClosed(conn)
		}),
		"POST /prompt": accepts(other),
		"GET /queue":   says(http.StatusOK, emptyQueue),
		"GET /history/" + other: func(w http.ResponseWriter, r *http.Request) {
			<-shown
			completed(other)(w, r)
		},
	})
	listen(t, host)
	p := comfy.Prompt{ID: promptID, Workflow: []byte(graph)}
	_, err := host.Run(within(t), p, comfy.Watch{
		Submitted: func() { close(posted) },
		Progress: func(comfy.Progress) {
			if !heard {
				heard = true
				close(shown)
			}
		},
	})
	if err != nil || !heard {
		t.Errorf("ends as %v, its progress was heard: %v", err, heard)
	}
}

func TestAPromptThatIsBeingRunIsNotRunBesideItself(t *testing.T) {
	t.Parallel()
	host := serve(t, backlogWith(t, "running"))
	p := comfy.Prompt{ID: promptID, Workflow: []byte(graph)}
	var second error
	first := p
	first.Total = 500 * time.Millisecond
	_, err := host.Run(within(t), first, comfy.Watch{Submitted: func() { _, second = host.Run(within(t), p, comfy.Watch{}) }})
	if failure.KindOf(err) != failure.Timeout {
		t.Errorf("the first ends as %v", err)
	}
	if failure.KindOf(second) != failure.Lost || !strings.Contains(second.Error(), "is being run already") {
		t.Errorf("the second ends as %v", second)
	}
}

func TestARefusedPromptIDIsLost(t *testing.T) {
	t.Parallel()
	host := serve(t, routes{"POST /prompt": says(http.StatusBadRequest, `{"error": {"type": "invalid_prompt_id", "message": "no UUID"}, "node_errors": {}}`)})
	_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Lost || f.Message != "ComfyUI refused the prompt id: no UUID" {
		t.Errorf("ends as %v", err)
	}
}
