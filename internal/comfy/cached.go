package comfy

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// The node pack comfyui-tooling-nodes carries the pictures of Krita: a client puts a picture into ComfyUI's memory under an id, nodes of a
// class read it by this id, and those of another leave pictures there under ids of their own. ComfyUI forgets them after ten minutes.
const (
	// Cached is the Type of an Output that is in the pack's memory. Its file name is its id with an extension.
	Cached = "cache"
	// CacheClass is the class that reads a picture, and CacheInput its input with the id.
	CacheClass = "ETN_LoadImageCache"
	CacheInput = "id"

	cacheRoute = "/api/etn/image/"
	longestID  = 128
)

// CachedID reports whether a text can be the id of a picture in the pack's memory.
func CachedID(id string) bool {
	return id != "" && len(id) <= longestID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// CachedName is the id of a picture whose file name this is.
func CachedName(file string) (id string) { return strings.TrimSuffix(file, path.Ext(file)) }

// cachedFile is the file name of a picture that a node has left in the pack's memory.
func cachedFile(id, contentType string) (name string, is bool) {
	if !CachedID(id) {
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
