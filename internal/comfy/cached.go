package comfy

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// cacheRoute is where the node pack comfyui-tooling-nodes takes and gives pictures, see workflow.CacheClass.
const cacheRoute = "/api/etn/image/"

// cachedFile is the file name of a picture that a node has left in the pack's memory.
func cachedFile(id, contentType string) (name string, is bool) {
	if !workflow.CachedID(id) {
		return "", false
	}
	switch contentType {
	case "image/jpeg":
		return id + ".jpg", true
	case "image/webp":
		return id + ".webp", true
	}
	return id + ".png", true
}

// PutCached puts a picture into the pack's memory. r is streamed; the error is a *failure.Failure unless ctx ended.
func (h *Host) PutCached(ctx context.Context, id string, r io.Reader) error {
	request, err := h.request(ctx, http.MethodPut, cacheRoute+url.PathEscape(id), nil, r)
	if err != nil {
		return failure.New(failure.Refused, "put a picture into ComfyUI's memory: "+oneLine(err.Error()))
	}
	request.Header.Set("Content-Type", "application/octet-stream") // nodes look into the picture itself
	response, err := h.do(request)
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case err != nil:
		return failure.New(failure.HostLost, "ComfyUI does not take the picture: "+why(err))
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, smallAnswer)) // so that the connection is used again
	switch {
	case response.StatusCode == http.StatusOK || response.StatusCode == http.StatusCreated:
		return nil
	case response.StatusCode >= http.StatusInternalServerError:
		return failure.New(failure.HostLost, "ComfyUI does not take the picture: "+http.StatusText(response.StatusCode))
	}
	return failure.New(failure.Refused, "the host's node pack comfyui-tooling-nodes takes no pictures: "+http.StatusText(response.StatusCode))
}
