package comfy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Page is the answer to a GET. Its reader closes Body.
type Page struct {
	Status      int
	ContentType string
	Size        int64 // -1: ComfyUI does not say
	Body        io.ReadCloser
}

// Page asks for one of ComfyUI's routes, such as models/vae. Only ctx bounds it.
func (h *Host) Page(ctx context.Context, route string, query url.Values) (*Page, error) {
	request, err := h.request(ctx, http.MethodGet, "/"+strings.TrimPrefix(route, "/"), query, nil)
	if err != nil {
		return nil, err
	}
	response, err := h.do(request) //nolint:bodyclose // the reader of the Page closes it
	if err != nil {
		return nil, fmt.Errorf("ask %s for /%s: %s", h, route, why(err))
	}
	return &Page{
		Status: response.StatusCode, ContentType: response.Header.Get("Content-Type"), Size: response.ContentLength, Body: response.Body,
	}, nil
}

// Record is what the history says of a prompt: the answer of GET /history/{id} as it came, of at most 128 MiB. It is nil when the
// history has no entry of this id, as of a prompt that has not ended and on servers older than 0.3.45, which give ids of their own.
func (h *Host) Record(ctx context.Context, promptID string) ([]byte, error) {
	path := "/history/" + url.PathEscape(promptID)
	got, err := h.get(ctx, path, nil, largeAnswer)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if got.status != http.StatusOK {
		return nil, &statusError{path, got.status}
	}
	var entries map[string]struct{} // an entry may be large
	if err := decode(got.body, &entries); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", path, errForeignAnswer, err)
	}
	if _, there := entries[promptID]; !there {
		return nil, nil
	}
	return got.body, nil
}
