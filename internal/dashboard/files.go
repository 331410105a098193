package dashboard

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// inlineTypes are the types that a browser may show. Everything else is downloaded: an SVG or HTML file is a program that would run
// as a part of this page.
var inlineTypes = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/webp": true, "image/gif": true, "image/avif": true, "image/bmp": true,
	"video/mp4": true, "video/webm": true, "video/quicktime": true,
	"audio/mpeg": true, "audio/wav": true, "audio/x-wav": true, "audio/flac": true, "audio/ogg": true, "audio/mp4": true, "audio/opus": true,
}

func inlinePicture(contentType string) bool {
	return strings.HasPrefix(contentType, "image/") && inlineTypes[contentType]
}

// fileTimeout bounds the download of one file, so that a viewer who takes nothing does not keep it open for ever.
const fileTimeout = 10 * time.Minute

// file gives a file of COMFY_OUTPUTS, whole or a range of it, with its digest as the tag.
func (d *Dashboard) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	tenant, _, _ := strings.Cut(name, "/")
	if !viewerOf(r).sees(job.Tenant(tenant)) {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fileTimeout)
	defer cancel()
	content, err := d.q.SeekFile(ctx, names.OutputsStore, name)
	if errors.Is(err, queue.ErrNoFile) {
		refuse(w, http.StatusNotFound, "there is no file "+quoted(name)+"; files are removed when they are older than --files-age")
		return
	}
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTimeout)) // a server of tests may have none
	defer content.Close()
	describe(w.Header(), &content.File, r.URL.Query().Has("download"))
	http.ServeContent(w, r, "", time.Time{}, content)
}

// describe sets the headers of a file. Nothing in a file may load, run or be framed, whatever it says that it is.
func describe(h http.Header, f *jetstream.File, download bool) {
	contentType, _, err := mime.ParseMediaType(f.ContentType)
	if err != nil || !inlineTypes[contentType] {
		contentType, download = "application/octet-stream", true
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cache-Control", "private, no-cache") // asked again, and answered with 304 as long as the digest is the same
	if f.Digest != "" {
		h.Set("ETag", `"`+strings.ReplaceAll(f.Digest, `"`, "")+`"`)
	}
	if download {
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(f.Name)}))
	}
}
