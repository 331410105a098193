package comfy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Bounds on what is read of one answer. ComfyUI's own answers have none: a
// history entry holds the whole graph and whatever its nodes report.
const (
	smallAnswer = 1 << 20
	largeAnswer = 128 << 20
)

// answer is one HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

var errTooLarge = errors.New("the answer is too large")

// call sends one request and reads its answer, up to limit bytes. It is never
// repeated by the transport unless it is a GET: body has no GetBody, and POST
// counts as not idempotent in net/http.
func (h *Host) call(ctx context.Context, method, path string, query url.Values, body []byte, limit int64) (answer, error) {
	var reader io.Reader
	if body != nil {
		reader = struct{ io.Reader }{bytes.NewReader(body)}
	}
	request, err := h.request(ctx, method, path, query, reader)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		request.ContentLength = int64(len(body))
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := h.do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	if int64(len(got)) > limit {
		return answer{}, fmt.Errorf("%s %s: %w (over %d bytes)", method, path, errTooLarge, limit)
	}
	return answer{status: response.StatusCode, header: response.Header, body: got}, nil
}

func (h *Host) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, h.at(path, query), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if h.user != nil {
		password, _ := h.user.Password()
		request.SetBasicAuth(h.user.Username(), password)
	}
	return request, nil
}

func (h *Host) at(path string, query url.Values) string {
	u := h.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawQuery = query.Encode()
	return u.String()
}

// do sends the request and notes that the host answered.
func (h *Host) do(request *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := h.client.Do(request)
	h.observe(request.URL.Path, response, time.Since(began))
	if err != nil {
		if unconnected(err) {
			h.client.CloseIdleConnections()
		}
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// The answer is from a proxy that cannot reach ComfyUI.
		h.absent.Store(response.StatusCode != http.StatusGatewayTimeout)
	default:
		h.absent.Store(false)
		h.answered()
	}
	return response, nil
}

func (h *Host) observe(path string, response *http.Response, took time.Duration) {
	if h.options.Observe == nil {
		return
	}
	status := 0
	if response != nil {
		status = response.StatusCode
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, strings.TrimSuffix(h.base.Path, "/")), "/")
	first, _, _ := strings.Cut(path, "/")
	h.options.Observe("/"+first, status, took)
}

// answered records that ComfyUI has answered now, by the monotonic clock.
func (h *Host) answered() { h.lastAnswer.Store(int64(time.Since(h.born))) }

// accepts reports whether the host's port takes connections. A ComfyUI whose port does and that gives no answer is busy (it
// computes /object_info, or holds Python's lock), or its process was stopped.
func (h *Host) accepts(ctx context.Context) bool {
	if h.absent.Load() {
		return false // that is the proxy's port
	}
	ctx, cancel := context.WithTimeout(ctx, min(5*time.Second, h.options.FreezeTimeout))
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(h.base.Hostname(), h.port()))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// get is call with a GET and the time limit of FreezeTimeout.
func (h *Host) get(ctx context.Context, path string, query url.Values, limit int64) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.options.FreezeTimeout)
	defer cancel()
	return h.call(ctx, http.MethodGet, path, query, nil, limit)
}

// post is call with a POST of JSON and the time limit of FreezeTimeout.
func (h *Host) post(ctx context.Context, path string, body string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.options.FreezeTimeout)
	defer cancel()
	got, err := h.call(ctx, http.MethodPost, path, nil, []byte(body), smallAnswer)
	if err != nil {
		return answer{}, fmt.Errorf("ask %s: %w", h, err)
	}
	return got, nil
}

// unconnected reports whether no connection was made, so that nothing of the request was sent.
func unconnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// refused reports whether the host's machine answers and no process listens on the port. It is false for names that are
// not found, timeouts, and errors of this machine (too many open files).
func refused(err error) bool {
	const windows = syscall.Errno(10061) // WSAECONNREFUSED
	return unconnected(err) && (errors.Is(err, syscall.ECONNREFUSED) || runtime.GOOS == "windows" && errors.Is(err, windows))
}

// why is the innermost reason of a transport error, without the URL.
func why(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return oneLine(err.Error())
}

// Reason is why the host did not answer, as short as a line in a table needs
// it: without the address, which is beside it there.
func Reason(err error) string {
	var status *statusError
	var op *net.OpError
	switch {
	case errors.As(err, &status):
		return status.Error()
	case isTimeout(err):
		return "timeout"
	case errors.As(err, &op):
		return oneLine(op.Err.Error())
	}
	return why(err)
}
