package comfy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// ownFolder is the only folder, in each of ComfyUI's, in which this package writes and deletes.
const ownFolder = "comfyherd"

// ErrNoRoom says that ComfyUI cannot write a file of ours.
var ErrNoRoom = errors.New("ComfyUI cannot write a small file of ours: its disk or quota is full, or its folder is read-only")

// fileRef is where a file lies on the host.
type fileRef struct {
	kind      string // input, output or temp
	subfolder string
	name      string
}

func (s fileRef) query() url.Values {
	return url.Values{"type": {s.kind}, "subfolder": {s.subfolder}, "filename": {s.name}}
}

// put writes a file of ours; with overwrite it replaces the one that is there. A full disk is ErrNoRoom.
func (h *Host) put(ctx context.Context, s fileRef, content []byte, overwrite bool) error {
	ctx, cancel := context.WithTimeout(ctx, h.options.FreezeTimeout)
	defer cancel()
	status, _, body, err := h.send(ctx, s, bytes.NewReader(content), overwrite)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return nil
	case status == http.StatusInternalServerError && raisedInComfyUI(body):
		return ErrNoRoom
	}
	return &statusError{"/upload/image", status}
}

// send uploads one file, without holding it in memory.
func (h *Host) send(ctx context.Context, s fileRef, content io.Reader, overwrite bool) (int, http.Header, []byte, error) {
	form, contentType, err := uploadBody(s, content, overwrite)
	if err != nil {
		return 0, nil, nil, err
	}
	request, err := h.request(ctx, http.MethodPost, "/upload/image", nil, form)
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := h.do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(io.LimitReader(response.Body, smallAnswer))
	return response.StatusCode, response.Header, got, err
}

// fetch reads a small file; a file that is not there is nil.
func (h *Host) fetch(ctx context.Context, s fileRef) ([]byte, error) {
	got, err := h.get(ctx, "/view", s.query(), smallAnswer)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusOK:
		return got.body, nil
	case got.status == http.StatusNotFound:
		return nil, nil
	}
	return nil, &statusError{"/view", got.status}
}

// stat asks for a file's header only; nil means that it is not there.
func (h *Host) stat(ctx context.Context, s fileRef) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, h.options.FreezeTimeout)
	defer cancel()
	got, err := h.call(ctx, http.MethodHead, "/view", s.query(), nil, smallAnswer)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusOK:
		return got.header, nil
	case got.status == http.StatusNotFound:
		return nil, nil
	}
	return nil, &statusError{"/view", got.status}
}

// raisedInComfyUI reports whether a 500 is aiohttp's, sent when a handler of ComfyUI raises, and not a proxy's.
func raisedInComfyUI(body []byte) bool {
	return bytes.HasPrefix(body, []byte("500 Internal Server Error")) && bytes.Contains(body, []byte("Server got itself in trouble"))
}
