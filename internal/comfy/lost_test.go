package comfy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// sockets accepts websockets, greets them, and does with each what the test says, until that returns.
func sockets(t *testing.T, serve func(conn *websocket.Conn, r *http.Request)) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}},"sid":"x"}}`))
		serve(conn, r)
	}
}

// untilClosed reads, and so answers pings, until the other side has gone.
func untilClosed(conn *websocket.Conn) {
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

func hangUp(t *testing.T, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = conn.Close()
}

func TestALostPostIsNotSentAgainToAComfyUIThatMayHaveDiedOfIt(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(conn *websocket.Conn){
		"SocketDropped": func(*websocket.Conn) {},
		"PromptWasSeen": func(conn *websocket.Conn) { tell(conn, "execution_start", promptID, ""); untilClosed(conn) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			posted := make(chan struct{}, 9)
			posts, opened := atomic.Int32{}, atomic.Int32{}
			host := serve(t, routes{
				"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
					if opened.Add(1) > 1 {
						untilClosed(conn)
						return
					}
					<-posted
					after(conn)
				}),
				"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
					posts.Add(1)
					posted <- struct{}{}
					hangUp(t, w, r)
				},
				"GET /queue":               says(http.StatusOK, emptyQueue),
				"GET /history/" + promptID: says(http.StatusOK, `{}`),
			})
			listen(t, host)
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if f := failure.As(err); f == nil || f.Kind != failure.HostLost || !strings.Contains(f.Message, "died or was restarted") || posts.Load() != 1 {
				t.Errorf("after %d posts it ends as %v", posts.Load(), err)
			}
		})
	}
}

func TestARestartIsSeenByTheSocketThatItDropped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drops bool
		want  failure.Kind
	}{"Dropped": {true, failure.HostLost}, "StaysOpen": {false, failure.Interrupted}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, forgotten := make(chan struct{}), atomic.Bool{}
			host := serve(t, routes{
				"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
					if forgotten.Load() {
						untilClosed(conn)
						return
					}
					<-running
					forgotten.Store(true)
					if !c.drops {
						tell(conn, "executing", promptID, `,"node":null`)
						untilClosed(conn)
					}
				}),
				"POST /prompt": accepts(promptID),
				"GET /queue": func(w http.ResponseWriter, r *http.Request) {
					if forgotten.Load() {
						says(http.StatusOK, emptyQueue)(w, r)
						return
					}
					says(http.StatusOK, fmt.Sprintf(`{"queue_running": [[0, %q, {}, {}, []]], "queue_pending": []}`, promptID))(w, r)
				},
				"GET /history/" + promptID: says(http.StatusOK, `{}`),
			})
			listen(t, host)
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{Running: sync.OnceFunc(func() { close(running) })})
			if got := failure.KindOf(err); got != c.want {
				t.Errorf("ends as %v", err)
			}
		})
	}
}

func TestNodesThatNobodyTellsOfShareTheirLimits(t *testing.T) {
	t.Parallel()
	r := simulateDeaf(t, comfysim.Config{}, quick())
	graph := map[string]any{"0": empty(1)}
	for i := range 20 {
		graph[fmt.Sprint(i+1)] = node("ImageInvert", map[string]any{"image": link(fmt.Sprint(i))})
	}
	graph["30"] = node("SimSleep", map[string]any{"image": link("20"), "seconds": 1.5, "steps": 1})
	graph["31"] = node("SaveImage", map[string]any{"images": link("30"), "filename_prefix": "a"})
	p := promptOf(t, graph)
	p.Node = 800 * time.Millisecond // 23 of them are 18 s
	if _, err := r.run(p, comfy.Watch{}); err != nil {
		t.Error(err)
	}
}

// ComfyUI may be through with what it took of a prompt before it says that it left a part out.
func TestAnEndingWaitsForTheAnswerToItsPost(t *testing.T) {
	t.Parallel()
	looks := make(chan struct{}, 1000)
	host := serve(t, routes{
		"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for range 4 { // looks that found it ended
				select {
				case <-looks:
				case <-r.Context().Done():
				}
			}
			says(http.StatusOK, `{"prompt_id": "`+promptID+`", "number": 1, "node_errors": {"4": {"errors": [], "class_type": "SaveImage"}}}`)(w, r)
		},
		"GET /queue": says(http.StatusOK, emptyQueue),
		"GET /history/" + promptID: func(w http.ResponseWriter, r *http.Request) {
			looks <- struct{}{}
			says(http.StatusOK, `{"`+promptID+`": {"outputs": {}, "status": {"status_str": "success", "completed": true, "messages": []}}}`)(w, r)
		},
	})
	_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Refused || f.Node != "4" {
		t.Errorf("ends as %v", err)
	}
}

func TestASocketIsKeptForAsLongAsItShowsLife(t *testing.T) {
	t.Parallel()
	const interval = time.Second // a socket counts as dead after two
	for name, live := range map[string]func(conn *websocket.Conn) (latest time.Duration){
		"ByMessages": func(conn *websocket.Conn) (latest time.Duration) { // no ping is read, and none answered
			began := time.Now()
			ticker := time.NewTicker(interval / 20)
			defer ticker.Stop()
			for last := began; time.Since(began) < 3*interval; <-ticker.C {
				_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}}}}`))
				latest, last = max(latest, time.Since(last)), time.Now()
			}
			return latest
		},
		"ByAnswersToPings": func(conn *websocket.Conn) (latest time.Duration) {
			last := time.Now()
			answer := conn.PingHandler()
			conn.SetPingHandler(func(data string) error {
				latest, last = max(latest, time.Since(last)), time.Now()
				return answer(data)
			})
			_ = conn.SetReadDeadline(time.Now().Add(3 * interval))
			untilClosed(conn)
			return max(latest, time.Since(last))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				opened := atomic.Int32{}
				ended := make(chan time.Duration, 1)
				o := quick()
				o.PingInterval = interval
				host := serveWith(t, routes{"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
					if opened.Add(1) == 1 {
						ended <- live(conn)
					}
					untilClosed(conn)
				})}, o)
				listen(t, host)
				began := time.Now()
				latest := <-ended
				if opened.Load() == 1 && time.Since(began) > 5*interval/2 {
					return
				}
				if latest < 3*interval/2 {
					t.Fatalf("it was opened %d times, and showed life every %v", opened.Load(), latest)
				}
				t.Log("the machine stood still for longer than the limit, which shows nothing")
			}
			t.Error("no socket lived in time")
		})
	}
}

func TestTheSocketAsksForPreviewsThatNameTheirPrompt(t *testing.T) {
	t.Parallel()
	said := make(chan string, 1)
	listen(t, serve(t, routes{"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
		_, first, err := conn.ReadMessage()
		if err != nil {
			t.Error(err)
		}
		said <- string(first)
		untilClosed(conn)
	})}))
	if got := <-said; got != `{"type":"feature_flags","data":{"supports_preview_metadata":true}}` {
		t.Errorf("it says %s", got)
	}
}

// Old servers send previews that name no prompt. They belong to the one that runs, if that is clear.
func TestAPreviewWithoutANameBelongsToTheOnlyPromptThatRuns(t *testing.T) {
	t.Parallel()
	const other = "1591d20b-ec41-400d-ac88-1b5c18025624"
	for name, running := range map[string][]string{"One": {promptID}, "Two": {promptID, other}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posted sync.WaitGroup
			posted.Add(2)
			done := make(chan struct{})
			host := serve(t, routes{
				"GET /ws": sockets(t, func(conn *websocket.Conn, _ *http.Request) {
					posted.Wait()
					for _, id := range running {
						tell(conn, "execution_start", id, "")
					}
					_ = conn.WriteMessage(websocket.BinaryMessage, []byte("\x00\x00\x00\x01\x00\x00\x00\x01\xff\xd8"))
					for _, id := range []string{promptID, other} {
						tell(conn, "progress", id, `,"node":"1","value":1,"max":2`)
					}
					untilClosed(conn)
				}),
				"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					id := promptID
					if strings.Contains(string(body), other) {
						id = other
					}
					accepts(id)(w, r)
				},
				"GET /queue":               says(http.StatusOK, emptyQueue),
				"GET /history/" + promptID: func(w http.ResponseWriter, r *http.Request) { <-done; completed(promptID)(w, r) },
				"GET /history/" + other:    func(w http.ResponseWriter, r *http.Request) { <-done; completed(other)(w, r) },
			})
			listen(t, host)
			var told, shown atomic.Int32
			var all sync.WaitGroup
			for _, id := range []string{promptID, other} {
				all.Go(func() {
					_, err := host.Run(within(t), comfy.Prompt{ID: id, Workflow: []byte(graph)}, comfy.Watch{
						Submitted: posted.Done,
						Preview:   func(string, []byte) { shown.Add(1) },
						Progress: func(comfy.Progress) {
							if told.Add(1) == 2 {
								close(done)
							}
						},
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if got, want := int(shown.Load()), 2-len(running); got != want {
				t.Errorf("%d previews were shown, want %d", got, want)
			}
		})
	}
}

func TestAHostIsListenedToOnce(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	if err := r.host.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "listen to "+r.sim.URL()) {
		t.Errorf("a second Listen ends with %v", err)
	}
}
