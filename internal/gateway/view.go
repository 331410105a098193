package gateway

import (
	"bytes"
	"context"
	"errors"
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

var errNoView = &failed{http.StatusNotFound, "not_found", "there is no such file: files are kept for a limited time, and subfolder must be sent as the output had it"}

// getView answers a file: an output of one of the tenant's jobs, or an upload. A file of a job that still runs is answered when it has
// ended, since a host's files are stored then; clients ask as soon as a node has made one.
func (g *Gateway) getView(w http.ResponseWriter, r *http.Request, of *tenant) error {
	query := r.URL.Query()
	content, err := g.located(r.Context(), of, query.Get("filename"), query.Get("subfolder"), query.Get("type"))
	if err != nil {
		return err
	}
	defer content.Close()
	if channel := query.Get("channel"); channel == "rgb" || channel == "a" {
		picture, err := g.decoded(r.Context(), func() ([]byte, error) { return pictureChannel(content, channel) })
		if err != nil {
			return err
		}
		viewHeaders(w, path.Base(content.object), "image/png")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(picture))
		return nil
	}
	viewHeaders(w, fileName(query.Get("filename")), content.file.ContentType)
	w.Header().Set("ETag", `"`+strings.Trim(content.file.Digest, `"`)+`"`)
	serveContent(w, r, time.Time{}, content)
	return nil
}

// located opens the file that a client names; errNoView when there is none.
func (g *Gateway) located(ctx context.Context, of *tenant, filename, subfolder, kind string) (*storedFile, error) {
	store, object, err := g.locate(ctx, of, filename, subfolder, kind)
	if err != nil {
		return nil, err
	}
	content, err := g.openFile(ctx, store, object)
	if errors.Is(err, queue.ErrNoFile) {
		return nil, errNoView
	}
	return content, err
}

// viewHeaders sets what a file is. A browser must not run what a workflow has made: such files are downloaded.
func viewHeaders(w http.ResponseWriter, name, contentType string) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind == "application/octet-stream" {
		kind = mime.TypeByExtension(path.Ext(name))
		if base, _, err := mime.ParseMediaType(kind); err == nil {
			kind = base
		} else {
			kind = "application/octet-stream"
		}
	}
	disposition := "inline"
	main, _, _ := strings.Cut(kind, "/")
	safe := kind != "image/svg+xml" && (main == "image" || main == "video" || main == "audio") || kind == "text/plain" || kind == "application/json"
	if !safe {
		disposition = "attachment"
		kind = "application/octet-stream"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": name}))
}

func fileName(text string) string {
	file, _ := splitFolder(text)
	return path.Base(strings.ReplaceAll(file, `\`, "/"))
}

// locate finds the object that a file of a client is stored as.
func (g *Gateway) locate(ctx context.Context, of *tenant, filename, subfolder, kind string) (store, object string, err error) {
	if hash, is := hashOf(filename); is {
		b, err := g.blob(ctx, of, hash)
		if _, none := errors.AsType[*refusal](err); none {
			return "", "", errNoView
		}
		if err != nil {
			return "", "", err
		}
		return b.Store, b.Object, nil
	}
	file, annotated := splitFolder(filename)
	if file != filename && kind == "" {
		kind = annotated
	}
	switch kind {
	case "":
		kind = outputFolder
	case inputFolder, outputFolder, tempFolder:
	default:
		return "", "", &failed{http.StatusBadRequest, "invalid_type", "type is input, output or temp"}
	}
	clean, ok := cleanPath(path.Join(strings.ReplaceAll(file, `\`, "/")))
	folder, fits := "", true
	if subfolder != "" {
		folder, fits = cleanPath(subfolder)
	}
	if !ok || !fits || strings.HasPrefix(file, "/") || strings.Contains(file, "..") {
		return "", "", &failed{http.StatusBadRequest, "invalid_path", "filename and subfolder must stay below the folder that type names"}
	}
	clean = path.Join(folder, clean)
	if kind != inputFolder {
		out, found, err := g.awaitOutput(ctx, of, path.Dir(clean), path.Base(clean), kind)
		if err != nil {
			return "", "", err
		}
		if found && out.Object != "" {
			return names.OutputsStore, out.Object, nil
		}
	}
	return names.InputsStore, uploadName(of.name, kind, clean), nil
}

// awaitOutput finds a file of a job, and waits for the end of the job when it runs.
func (g *Gateway) awaitOutput(ctx context.Context, of *tenant, folder, file, kind string) (job.Output, bool, error) {
	if out, found, err := storedOutput(ctx, of.rows, folder, file, kind); err != nil || found {
		return out, found, err
	}
	id, _, _ := strings.Cut(folder, "/")
	for {
		changed := of.rows.Changed()
		row, known := of.rows.Row(job.ID(id))
		if !known || row.Ended() || !row.Begun() {
			out, found := findOutput(of.rows, folder, file, kind)
			return out, found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return job.Output{}, false, ctx.Err()
		}
	}
}

// storedFile reads a stored file from anywhere in it, as ranges need it.
type storedFile struct {
	ctx    context.Context //nolint:containedctx // of the one request that reads it
	q      *queue.Queue
	store  string
	object string
	file   jetstream.File
	offset int64
	body   io.ReadCloser // from offset on; nil until it is read
}

// openFile finds a stored file; queue.ErrNoFile when there is none. Its content is opened when it is read.
func (g *Gateway) openFile(ctx context.Context, store, object string) (*storedFile, error) {
	file, err := g.q.StatFile(ctx, store, object)
	if err != nil {
		return nil, err
	}
	return &storedFile{ctx: ctx, q: g.q, store: store, object: object, file: file}, nil
}

// Seek goes to a place in the file.
func (f *storedFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.file.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of a file")
	}
	if offset == f.offset {
		return offset, nil
	}
	_ = f.Close()
	f.offset = offset
	return offset, nil
}

// Read reads on from the place that was sought.
func (f *storedFile) Read(b []byte) (int, error) {
	if f.body == nil {
		if f.offset >= f.file.Size {
			return 0, io.EOF
		}
		open := f.q.OpenOutputAt
		if f.store == names.InputsStore {
			open = f.q.OpenInputAt
		}
		var stored jetstream.File
		var err error
		if f.body, stored, err = open(f.ctx, f.object, f.offset); err != nil {
			return 0, err
		}
		if stored.Size != f.file.Size {
			_ = f.Close()
			return 0, errors.New("the file was replaced while it was read")
		}
	}
	n, err := f.body.Read(b)
	f.offset += int64(n)
	return n, err
}

// Close ends the reading; another Read begins again.
func (f *storedFile) Close() error {
	if f.body == nil {
		return nil
	}
	err := f.body.Close()
	f.body = nil
	return err
}
