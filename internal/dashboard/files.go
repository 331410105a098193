package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	stat, err := d.q.StatFile(ctx, names.OutputsStore, name)
	if errors.Is(err, queue.ErrNoFile) {
		refuse(w, http.StatusNotFound, "there is no file "+quoted(name)+"; files are removed when they are older than --files-age")
		return
	}
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTimeout)) // a server of tests may have none
	describe(w.Header(), &stat, r.URL.Query().Has("download"))
	content := &storedFile{ctx: ctx, q: d.q, file: stat}
	defer content.Close()
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

// storedFile reads a file from any offset. It is opened at the first Read behind a Seek, since most ranges begin elsewhere.
type storedFile struct {
	ctx    context.Context //nolint:containedctx // of the request that the file is read for
	q      *queue.Queue
	file   jetstream.File
	offset int64
	body   io.ReadCloser // nil: not open at offset
}

func (f *storedFile) Read(p []byte) (int, error) {
	if f.offset >= f.file.Size {
		return 0, io.EOF
	}
	if f.body == nil {
		body, now, err := f.q.OpenOutputAt(f.ctx, f.file.Name, f.offset)
		if err != nil {
			return 0, err
		}
		if now.Digest != f.file.Digest {
			return 0, errors.Join(fmt.Errorf("file %s was replaced while it was read", f.file.Name), body.Close())
		}
		f.body = body
	}
	n, err := f.body.Read(p)
	f.offset += int64(n)
	return n, err
}

// Seek moves to an offset; the file is opened there by the next Read.
func (f *storedFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.file.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("offset %d of file %s does not exist", offset, f.file.Name)
	}
	if offset != f.offset {
		_ = f.Close()
		f.offset = offset
	}
	return offset, nil
}

func (f *storedFile) Close() error {
	if f.body == nil {
		return nil
	}
	err := f.body.Close()
	f.body = nil
	return err
}
