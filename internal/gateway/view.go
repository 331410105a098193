package gateway

import (
	"bytes"
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
		viewHeaders(w, path.Base(content.File.Name), "image/png")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(picture))
		return nil
	}
	viewHeaders(w, fileName(query.Get("filename")), content.File.ContentType)
	w.Header().Set("ETag", `"`+strings.Trim(content.File.Digest, `"`)+`"`)
	serveContent(w, r, time.Time{}, content)
	return nil
}

// located opens the file that a client names; errNoView when there is none.
func (g *Gateway) located(ctx context.Context, of *tenant, filename, subfolder, kind string) (*queue.FileSeeker, error) {
	store, object, err := g.locate(ctx, of, filename, subfolder, kind)
	if err != nil {
		return nil, err
	}
	content, err := g.q.SeekFile(ctx, store, object)
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

// locate finds the store and the object of a file that a client names.
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
