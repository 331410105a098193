package comfy

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// What the fuzz targets feed, without a socket around it.
var (
	ParseText   = func(frame []byte) (prompt string, ok bool) { e, ok := parseText(frame); return e.prompt, ok }
	ParseBinary = func(frame []byte) (image []byte, ok bool) { p, ok := parseBinary(frame); return p.image, ok }
)

// Track hands a text frame to the tracker of a prompt, as the socket does.
func Track(frame []byte) {
	if e, ok := parseText(frame); ok {
		newTracker(e.prompt, shape{classes: map[string]string{"1": "A"}}).see(e, time.Unix(1, 0))
	}
}

// ReadAnswer reads body as every answer that Run reads.
func ReadAnswer(body []byte, id string) {
	var r refusal
	if decode(body, &r) == nil {
		_ = r.failure(nil)
	}
	for _, e := range endingsOf(body, id) {
		if e != nil {
			_ = e.failure()
			_ = e.reused()
		}
	}
	if line, err := readBacklog(body); err == nil {
		line.find(id)
	}
	_ = workerTraceback(entriesOf(string(body)))
	_, _ = uploadedName(answer{status: 200, body: body}, "a.png")
}

func endingsOf(body []byte, id string) []*ending {
	_, fromJob := readJob(body)
	fromHistory, _ := readHistory(body, id)
	return []*ending{fromJob, fromHistory}
}

// Patterns are all texts that decide something where they begin a message of torch or of the system.
func Patterns() []string {
	return slices.Concat(memoryTexts, poisonTexts, usableTexts, []string{
		"[Errno 28] No space left on device", "[Errno 122] Disk quota exceeded", "[Errno 12] Cannot allocate memory",
		"Error while serializing: IoError(Os { code: 28,", "Error while serializing: I/O error: No space left on device",
		"Exception in thread Thread-1 (prompt_worker):", "Exception in thread ", "Thread-1 (prompt_worker)", ":\n",
		"  File \"/opt/comfy/execution.py\", line 306, in process_inputs\n",
		"Cannot execute because node X does not exist.", "torch.OutOfMemoryError", "MemoryError", "AcceleratorError", "ConnectionError",
		"no space left on device", "cuda error", "out of memory", "ran out of memory lane", "device-side assert triggered",
	})
}

// SetIdleTime makes prompts that wait beside an idle worker count after a shorter time.
func SetIdleTime(o *Options, d time.Duration) { o.idleTime = d }

// SetTransport answers the host's requests by something else than a connection.
func SetTransport(h *Host, t http.RoundTripper) { h.client.Transport = t }

// SetDial opens the connections of the host's websockets in another way.
func SetDial(h *Host, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	h.dialer.NetDialContext = dial
}

// What small functions make of their input.
var (
	Moment      = moment
	PlainName   = plainName
	RunsPrompts = runsPrompts
	InFolder    = inFolder
	OneLine     = oneLine
	Clip        = clip
	Defaults    = Options.withDefaults
	SaidOf      = func(status int, contentType, body string) string {
		return foreign(answer{status, http.Header{"Content-Type": {contentType}}, []byte(body)})
	}
)

// Threads is what a host concludes from its ProcessReader.
type Threads struct{ all threads }

// NewThreads begins without a snapshot.
func NewThreads(w ProcessReader) *Threads { return &Threads{threads{reader: w}} }

// Before is called before a prompt is sent, After when it has ended, and Gone says whether the worker thread has ended.
func (t *Threads) Before(ctx context.Context)                   { t.all.beforePrompt(ctx) }
func (t *Threads) After(ctx context.Context, ran time.Duration) { t.all.afterPrompt(ctx, ran) }
func (t *Threads) Gone(ctx context.Context) bool                { return t.all.gone(ctx) }

// Candidates are where a host looks for one of ComfyUI's folders on this machine.
func Candidates(ctx context.Context, h *Host, kind string) []string { return h.candidates(ctx, kind) }

// Kept counts the prompts whose pictures a host keeps.
func Kept(h *Host) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.albums)
}

// Socket is an open websocket of a host, over which a test says what it wants.
type Socket struct {
	host    *Host
	session *session
	Closed  <-chan struct{} // by this process
	Pinged  <-chan struct{} // has one for each ping
	silent  *atomic.Bool
}

// OpenSocket gives a host a websocket over a pipe.
func OpenSocket(h *Host) (Socket, error) {
	ours, theirs := net.Pipe()
	closed, pinged, silent := make(chan struct{}), make(chan struct{}, 100), new(atomic.Bool)
	s := &session{clientID: "socket", over: make(chan struct{})}
	go func() {
		defer close(closed)
		reader := bufio.NewReader(theirs)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(request.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455
		_, _ = fmt.Fprintf(theirs, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-Websocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		for payload, err := nextPing(reader); err == nil; payload, err = nextPing(reader) {
			pinged <- struct{}{}
			if !silent.Load() {
				s.onPong(payload) // as the reader of the socket does
			}
		}
	}()
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
	conn, _, err := dialer.Dial("ws://pipe/ws", nil)
	if err != nil {
		return Socket{}, err
	}
	s.conn = conn
	h.open(s)
	return Socket{host: h, session: s, Closed: closed, Pinged: pinged, silent: silent}, nil
}

// nextPing reads short frames, as a client masks them, until a ping has come, and gives its payload.
func nextPing(r io.Reader) (string, error) {
	for {
		var head [6]byte // type, length, mask
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "", err
		}
		payload := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(r, payload); err != nil {
			return "", err
		}
		for i := range payload {
			payload[i] ^= head[2+i%4]
		}
		if head[0]&0x0f == websocket.PingMessage {
			return string(payload), nil
		}
	}
}

// FallSilent has the other side answer no more pings.
func (s Socket) FallSilent() { s.silent.Store(true) }

// Says hands a text frame to the host, as the reader of the socket does.
func (s Socket) Says(frame string) {
	if s.host.relays.Load() > 0 {
		s.host.pass(websocket.TextMessage, []byte(frame), time.Now())
	}
	if e, ok := parseText([]byte(frame)); ok {
		s.host.handle(s.session, e, time.Now())
	}
}

// Drop ends the socket from the other side.
func (s Socket) Drop() {
	select {
	case <-s.session.over: // it was dropped before
	default:
		_ = s.session.conn.Close()
		s.host.shut(s.session, false)
	}
}

// Refused says whether an error of a request means that nobody listens.
var Refused = refused

// Seen looks at the process that listens at address, if its program is named so.
func Seen(ctx context.Context, address, program string) (Snapshot, bool) {
	u, err := url.Parse(address)
	if err != nil {
		return Snapshot{}, false
	}
	w := newProcessReader(u.Hostname(), u.Port(), program)
	return w.Read(ctx)
}

// WorkerAfter is the prompt that the worker runs after these messages of the websocket.
func WorkerAfter(messages ...string) string {
	var w worker
	for _, m := range messages {
		if e, ok := parseText([]byte(m)); ok {
			w.see(e, 0)
		}
	}
	return w.prompt
}
