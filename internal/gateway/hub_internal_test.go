package gateway

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// stage is a hub without NATS, whose frames and rows a test brings in its order.
type stage struct {
	t *testing.T
	h *hub
}

const hostID = "0b3d2c1e-1111-4222-8333-444455556666"

func newStage(t *testing.T) *stage {
	t.Helper()
	h := newHub(newRows(&queue.Queue{}, "acme"), func(context.Context, *Row) (*hostRecord, error) { return nil, nil }, func(job.ID, int) {})
	return &stage{t, h}
}

// socket connects a client.
func (s *stage) socket(sid string) *socket {
	one := &socket{sid: sid, wake: make(chan struct{}, 1), metrics: newMetrics()}
	s.h.open(one)
	s.come()
	one.take() // the first status
	return one
}

// come has the hub handle all that has come in.
func (s *stage) come() {
	for _, in := range s.h.take() {
		s.h.handle(s.t.Context(), in)
	}
}

// row stores an event of a job.
func (s *stage) row(client string, kind job.EventKind, attempt int) {
	s.t.Helper()
	row := Row{
		Job: "one", State: kind, Attempt: attempt, Time: time.Unix(9, 0), Started: time.Unix(int64(attempt), 0), Submission: Submission{ClientID: client},
		Last: &job.Event{EventKind: kind, Attempt: attempt, PromptID: hostID},
	}
	s.h.rows.mu.Lock()
	s.h.rows.put(&row)
	s.h.rows.mu.Unlock()
	s.come()
	if row.Ended() {
		s.h.end(s.t.Context(), "one")
	}
}

// frame brings a message of the host.
func (s *stage) frame(attempt int, kind, fields string) {
	data := `{"type":"` + kind + `","data":{"prompt_id":"` + hostID + `"` + fields + `}}`
	s.h.relay(&queue.Frame{Job: "one", Attempt: attempt, Number: 1, Data: []byte(data)})
}

// got are the types of what a socket has received, with the node of executed.
func got(s *socket) string {
	waiting, _ := s.take()
	var types []string
	for _, f := range waiting {
		var text struct {
			Type string
			Data struct{ Node string }
		}
		_ = json.Unmarshal(f.data, &text)
		if text.Type == "executed" {
			text.Type += " " + text.Data.Node
		}
		types = append(types, text.Type)
	}
	return strings.Join(types, ", ")
}

func (s *stage) want(what string, of *socket, want string) {
	s.t.Helper()
	if got := got(of); got != want {
		s.t.Errorf("%s: got %s; want %s", what, got, want)
	}
}

// A client that ignores everything before execution_start would wait for ever.
func TestAGatewayThatComesLateSaysThatAPromptRuns(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	client := s.socket("c")
	s.row("c", job.Started, 1)
	s.frame(1, "progress", `,"value":1,"max":2`)
	s.frame(1, "execution_start", "") // it comes twice only when a host sends it twice
	s.frame(1, "executing", `,"node":"1"`)
	s.want("of a prompt that runs", client, "execution_start, progress, executing")
}

func TestAPromptThatIsTriedAgainStartsOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	client := s.socket("c")
	s.row("c", job.Started, 1)
	s.frame(1, "execution_start", "")
	s.frame(1, "executed", `,"node":"1","output":{}`)
	s.want("the first attempt", client, "execution_start, executed 1")
	s.row("c", job.Started, 2)
	s.frame(2, "execution_start", "")
	s.want("the second attempt", client, "")
	s.endsWith([]job.Output{{Node: "1", Media: "images", Filename: "a.png", Type: "output"}})
	s.want("what no frame of the second attempt has brought", client, "executed 1, execution_success, status, executing")
}

// endsWith has the second attempt complete with outputs.
func (s *stage) endsWith(outputs []job.Output) {
	row := Row{
		Job: "one", State: job.Completed, Attempt: 2, Time: time.Unix(9, 0), Started: time.Unix(2, 0), Submission: Submission{ClientID: "c"},
		Last: &job.Event{EventKind: job.Completed, Attempt: 2, PromptID: hostID, Outputs: outputs},
	}
	s.h.rows.mu.Lock()
	s.h.rows.put(&row)
	s.h.rows.mu.Unlock()
	s.come()
	s.h.end(s.t.Context(), "one")
}

// ComfyUI sends this to all sockets when no client has sent the prompt.
func TestAllSocketsLearnThatAPromptOfNobodyWasInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	watcher := s.socket("w")
	s.row("", job.Started, 1)
	s.frame(1, "execution_start", "")
	s.row("", job.Cancelled, 1)
	s.want("who watches", watcher, "execution_interrupted")
}

// ComfyUI's page reads all its lists after each status.
func TestTheEndOfAPromptIsOneStatus(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	client, other := s.socket("c"), s.socket("o")
	s.row("c", job.Queued, 0)
	s.want("a new prompt", client, "status")
	s.h.saidAt = time.Time{} // long ago
	s.row("c", job.Started, 1)
	s.frame(1, "execution_start", "")
	s.row("c", job.Completed, 1)
	s.want("its client", client, "execution_start, execution_success, status, executing")
	s.want("another", other, "status, status")
}
