package comfy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// bubble answers the requests of a host without a connection, so that a test in testing/synctest waits for nothing. It
// notes what was asked and when.
type bubble struct {
	http.Handler
	began time.Time

	mu    sync.Mutex
	asked []string // such as "20ms GET /queue"
}

// address is the bubble's: nothing listens there, and nothing is sent there.
const address = "http://127.0.0.1:1"

// inBubble makes a host whose requests are answered by handler. A handler that blocks ends with its request.
func inBubble(t *testing.T, handler http.Handler, o comfy.Options) (*comfy.Host, *bubble) {
	t.Helper()
	return inBubbleAt(t, address, handler, o)
}

// inBubbleAt is inBubble with an address whose port may take connections.
func inBubbleAt(t *testing.T, at string, handler http.Handler, o comfy.Options) (*comfy.Host, *bubble) {
	t.Helper()
	o.ProcessReader = blind{}
	host, err := comfy.New(at, o)
	if err != nil {
		t.Fatal(err)
	}
	b := &bubble{Handler: handler, began: time.Now()}
	comfy.SetTransport(host, b)
	return host, b
}

// RoundTrip answers one request. A handler that panics with an error has that error instead of an answer.
func (b *bubble) RoundTrip(request *http.Request) (response *http.Response, err error) {
	body := []byte{}
	if request.Body != nil {
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	b.note(request, string(body))
	request = request.Clone(request.Context())
	request.Body = io.NopCloser(strings.NewReader(string(body)))
	defer func() {
		if failed, is := recover().(error); is {
			response, err = nil, failed
		}
	}()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, request)
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// note notes a request, and what net/http would make wrong of it: a GET with a body, and a POST without type or length.
func (b *bubble) note(request *http.Request, body string) {
	asked := strings.TrimSpace(fmt.Sprintf("%v %s %s %s", time.Since(b.began), request.Method, request.URL.Path, body))
	kind := request.Header.Get("Content-Type")
	switch {
	case request.Method != http.MethodPost && request.Body != nil:
		asked += " (with a body)"
	case request.Method == http.MethodPost && kind != "application/json" && !strings.HasPrefix(kind, "multipart/form-data; boundary="):
		asked += " (of type " + kind + ")"
	case kind == "application/json" && request.ContentLength != int64(len(body)):
		asked += fmt.Sprintf(" (with length %d)", request.ContentLength)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, asked)
}

// log gives what was asked since the last call, and starts the clock anew.
func (b *bubble) log() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked, b.began = nil, time.Now()
	return asked
}

// posts is log with the POSTs only, and without their times.
func (b *bubble) posts() []string {
	var posts []string
	for _, asked := range b.log() {
		if _, what, _ := strings.Cut(asked, " "); strings.HasPrefix(what, "POST ") {
			posts = append(posts, what)
		}
	}
	return posts
}

// refuses is a port on which nothing listens.
func refuses(http.ResponseWriter, *http.Request) {
	panic(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
}

// breaks is a connection that ends without an answer.
func breaks(http.ResponseWriter, *http.Request) { panic(io.ErrUnexpectedEOF) }

// silent gives no answer.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// pass lets a time pass in the bubble.
func pass(d time.Duration) { <-time.After(d) }

// bubbleBegins is the time at which the clock of every bubble begins.
var bubbleBegins = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// after answers by first until some time has passed in the bubble, and by then afterwards.
func after(d time.Duration, first, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if time.Since(bubbleBegins) < d {
			first(w, r)
			return
		}
		then(w, r)
	}
}
