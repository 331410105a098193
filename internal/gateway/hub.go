package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// hub brings a tenant's websockets what happens to its jobs. Two things come in: rows, when an event was stored, and frames, as hosts
// sent them. Frames say what runs; how a job ends is said by its events alone, so a failed attempt that is retried never shows an end.
//
// The order at the end is ComfyUI's: what the nodes left, execution_success or an error, status, executing without a node. The
// agent has sent every frame and stored the record of the run before it stores the event. Frames and events take different ways
// through NATS, so the hub sends a frame with the number 0 after it has received the event, and ends the job when that one comes
// back: on one server all frames before it have come by then. What a node left and no frame has carried is taken from the record.
//
// One goroutine, run, handles what comes in, one thing after the other.
type hub struct {
	rows     *Rows
	record   func(context.Context, *Row) (*hostRecord, error)
	sendLast func(id job.ID, attempt int) // sends the frame with the number 0, after all others

	wake    chan struct{}  // cap 1: something came in
	serving sync.WaitGroup // sockets, from open to leave

	mu      sync.Mutex // guards all below
	inbox   []incoming
	held    int              // bytes of frames in it
	roomy   chan struct{}    // closed when the inbox has room again; nil while it has
	sockets map[*socket]bool // from open to leave; whether they were welcomed: the others receive nothing yet
	closed  bool             // no more sockets are taken

	runs   map[job.ID]*run // of run alone, as is all below
	ending map[job.ID]*Row
	early  map[job.ID][]queue.Frame // of jobs whose row has not come in yet
	kept   int                      // bytes of those
	over   map[job.ID]bool          // jobs that ended last: frames of them are late
	latest []job.ID                 // those, in the order of their ends
	said   int                      // the last status that all sockets received
	saidAt time.Time                // when
	due    *time.Timer
}

// incoming is one thing that came in.
type incoming struct {
	row    *Row
	frame  *queue.Frame
	opened *socket
	end    job.ID // the time to wait for the frames of a job is over
	status bool   // the time for the next status has come
}

// run is what is known of a job that runs.
type run struct {
	client   string // whose sockets receive its frames; empty: all sockets receive its progress and pictures, as from ComfyUI
	attempt  int
	prompt   string // the host's id of it
	begun    bool   // execution_start was sent
	node     string // that runs
	state    *frame // the last progress_state
	executed map[string]bool
}

const (
	mostHeld     = 64 << 20               // bytes of frames in the inbox, beyond which those that bring them wait
	statusPause  = 500 * time.Millisecond // between two statuses, since ComfyUI's page asks for its lists after each
	framesBehind = 500 * time.Millisecond // how long the end of a job waits for the frame with the number 0

	mostEarly       = 64       // jobs of which early frames are kept
	mostEarlyFrames = 256      // of each
	mostEarlyBytes  = 64 << 20 // of all
	mostOver        = 4096
)

func newHub(rows *Rows, record func(context.Context, *Row) (*hostRecord, error), sendLast func(job.ID, int)) *hub {
	h := &hub{
		rows: rows, record: record, sendLast: sendLast, wake: make(chan struct{}, 1),
		sockets: map[*socket]bool{}, runs: map[job.ID]*run{}, ending: map[job.ID]*Row{},
		early: map[job.ID][]queue.Frame{}, over: map[job.ID]bool{},
	}
	rows.told = func(row *Row) { h.put(incoming{row: row}) }
	return h
}

func (h *hub) put(in incoming) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(in)
}

// add puts a thing into the inbox; h.mu must be held.
func (h *hub) add(in incoming) {
	h.inbox = append(h.inbox, in)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// frame brings a frame of a host; while too many wait, it waits too.
func (h *hub) frame(ctx context.Context, f queue.Frame) {
	h.mu.Lock()
	h.add(incoming{frame: &f})
	h.held += len(f.Data)
	if h.held > mostHeld && h.roomy == nil {
		h.roomy = make(chan struct{})
	}
	roomy := h.roomy
	h.mu.Unlock()
	if roomy != nil {
		select {
		case <-roomy:
		case <-ctx.Done():
		}
	}
}

func (h *hub) take() []incoming {
	h.mu.Lock()
	defer h.mu.Unlock()
	inbox := h.inbox
	h.inbox, h.held = nil, 0
	if h.roomy != nil {
		close(h.roomy)
		h.roomy = nil
	}
	return inbox
}

// open adds a socket; false when the hub takes no more. Each that was taken must leave.
func (h *hub) open(s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.sockets[s] = false
	h.serving.Add(1)
	h.add(incoming{opened: s})
	return true
}

func (h *hub) leave(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, s)
	h.serving.Done()
}

// close closes all sockets, for clients to connect elsewhere.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.sockets {
		s.close(websocket.CloseGoingAway)
	}
}

// cut ends the connections of sockets whose clients do not read what they are sent before the end.
func (h *hub) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sockets {
		_ = s.conn.Close()
	}
}

// all are the sockets that were welcomed.
func (h *hub) all() []*socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*socket
	for s, welcomed := range h.sockets {
		if welcomed {
			all = append(all, s)
		}
	}
	return all
}

// of are the open sockets with a client's id.
func (h *hub) of(client string) []*socket {
	if client == "" {
		return nil
	}
	return slices.DeleteFunc(h.all(), func(s *socket) bool { return s.sid != client })
}

// run handles what comes in until ctx ends.
func (h *hub) run(ctx context.Context) {
	h.said = h.rows.remaining()
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			h.close()
			return
		}
		for _, in := range h.take() {
			h.handle(ctx, in)
		}
	}
}

func (h *hub) handle(ctx context.Context, in incoming) {
	switch {
	case in.row != nil:
		h.changed(ctx, in.row)
	case in.frame != nil && in.frame.Number == 0:
		h.end(ctx, in.frame.Job)
	case in.frame != nil:
		h.relay(in.frame)
	case in.opened != nil:
		h.welcome(in.opened)
	case in.end != "":
		h.end(ctx, in.end)
	case in.status:
		h.due = nil
		h.announce()
	}
}

// welcome sends a new socket the status, and what runs for its client.
func (h *hub) welcome(s *socket) {
	s.pushStatus(h.rows.remaining(), s.sid)
	for id, r := range h.runs {
		if r.client == s.sid && r.begun {
			h.resume(s, id, r)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, open := h.sockets[s]; open {
		h.sockets[s] = true
	}
}

// resume tells a socket what runs.
func (h *hub) resume(s *socket, id job.ID, r *run) {
	row, _ := h.rows.Row(id)
	s.push(startFrame(id, row.Started))
	if r.node != "" {
		s.push(nodeFrame(id, r.node))
	}
	if r.state != nil {
		s.push(*r.state)
	}
}

// changed handles a row that has changed.
func (h *hub) changed(ctx context.Context, row *Row) {
	early := h.early[row.Job]
	delete(h.early, row.Job)
	for i := range early {
		h.kept -= len(early[i].Data)
		h.relay(&early[i])
	}
	switch {
	case row.Ended():
		h.ending[row.Job] = row
		if len(h.receivers(h.runOf(row))) == 0 || !row.Begun() { // no socket receives frames of it, or none will come
			h.end(ctx, row.Job)
			return
		}
		h.sendLast(row.Job, row.Attempt)
		time.AfterFunc(framesBehind, func() { h.put(incoming{end: row.Job}) })
	case row.State == job.Started:
		r := h.runOf(row)
		if r.attempt != row.Attempt {
			r.attemptOf(row.Attempt, row.Last.PromptID)
		}
	default:
		h.announce()
	}
}

// runOf is what is known of a job that runs.
func (h *hub) runOf(row *Row) *run {
	r := h.runs[row.Job]
	if r == nil {
		r = &run{client: row.Submission.ClientID, executed: map[string]bool{}}
		h.runs[row.Job] = r
	}
	return r
}

// attemptOf begins another attempt: what nodes have left in an earlier one does not count.
func (r *run) attemptOf(attempt int, prompt string) {
	r.attempt, r.prompt, r.node, r.state = attempt, prompt, "", nil
	clear(r.executed)
}

// begin sends that a job has begun, once. The host's own message is missing when this gateway has come later.
func (h *hub) begin(r *run, row *Row) {
	if !r.begun {
		r.begun = true
		h.send(h.receivers(r), startFrame(row.Job, row.Started))
	}
}

// receivers are the sockets that receive all frames of a job: those of its client.
func (h *hub) receivers(r *run) []*socket { return h.of(r.client) }

func (h *hub) send(to []*socket, f frame) {
	for _, s := range to {
		s.push(f)
	}
}

// relay sends a host's frame on.
func (h *hub) relay(f *queue.Frame) {
	row, known := h.rows.Row(f.Job)
	switch {
	case !known:
		h.keep(f)
		return
	case f.Attempt < row.Attempt || h.over[f.Job]:
		return
	}
	r := h.runOf(&row)
	if f.Attempt > r.attempt { // its event comes later
		r.attemptOf(f.Attempt, "")
	}
	if f.Binary {
		h.begin(r, &row)
		to := h.receivers(r)
		if r.client == "" && isPicture(f.Data) {
			to = h.all()
		}
		shown := shownBinary(f.Data, r.prompt, f.Job)
		if r.client != "" {
			shown.from = origin{f.Job, r.node}
		}
		h.send(to, shown)
		return
	}
	text, ok := readText(f.Data)
	if !ok {
		return
	}
	if r.prompt == "" && len(text.Data.ID) == promptIDLength {
		r.prompt = text.Data.ID
	}
	h.relayText(f, r, &text, &row)
}

// keep keeps a frame until the row of its job comes in, usually a moment later. When they would be too many, all that are kept are
// dropped, since they may be of jobs that do not exist, whose rows never come in.
func (h *hub) keep(f *queue.Frame) {
	early := h.early[f.Job]
	if len(early) >= mostEarlyFrames {
		return
	}
	if early == nil && len(h.early) >= mostEarly || h.kept+len(f.Data) > mostEarlyBytes {
		clear(h.early)
		early, h.kept = nil, 0
	}
	h.early[f.Job] = append(early, *f)
	h.kept += len(f.Data)
}

func (h *hub) relayText(f *queue.Frame, r *run, text *hostText, row *Row) {
	shown := shownText(f.Data, text, f.Job)
	to := h.receivers(r)
	switch text.Type {
	case "execution_start":
		if !r.begun { // else it is of a later attempt
			r.begun = true
			h.send(to, shown)
		}
		return
	case "execution_success", "execution_error", "execution_interrupted": // the events say how a job ends
		return
	}
	h.begin(r, row)
	switch text.Type {
	case "executing":
		r.node, shown.names = text.node(), f.Job
	case "progress_state":
		r.state = &shown
	case "executed":
		r.executed[text.node()] = true
	}
	if r.client == "" && (text.Type == "progress" || text.Type == "progress_state") {
		to = h.all()
	}
	h.send(to, shown)
}
