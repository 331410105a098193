package gateway

import (
	"io"
	"net/http"
	"time"
)

// stallTimeout is how long a client may send nothing of a body, or read nothing of an answer, before its connection is closed.
const stallTimeout = time.Minute

// timedBody ends a request whose body does not come.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

// newTimedBody puts itself in the place of the body of a request. stop must be called when the body is read: a deadline that passes
// later would end the request.
func newTimedBody(w http.ResponseWriter, r *http.Request) *timedBody {
	b := &timedBody{r.Body, http.NewResponseController(w)}
	r.Body = b
	return b
}

func (b *timedBody) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(stallTimeout)) // a connection without deadlines is one of a test
	return b.ReadCloser.Read(p)
}

func (b *timedBody) stop() { _ = b.rc.SetReadDeadline(time.Time{}) }

// timedContent ends an answer that its client does not read: each piece that is read for it must be written within the time.
type timedContent struct {
	io.ReadSeeker
	rc *http.ResponseController
}

func (c *timedContent) Read(p []byte) (int, error) {
	_ = c.rc.SetWriteDeadline(time.Now().Add(stallTimeout)) // a connection without deadlines is one of a test
	return c.ReadSeeker.Read(p)
}

// serveContent answers with a file, or with a range of it.
func serveContent(w http.ResponseWriter, r *http.Request, modified time.Time, content io.ReadSeeker) {
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // for the next answer on this connection
	http.ServeContent(w, r, "", modified, &timedContent{content, rc})
}
