package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// getAssetContent answers with the bytes of an asset, or those of a range of it, and HEAD with the headers alone.
func (g *Gateway) getAssetContent(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if r.PathValue("part") != "content" {
		return refuse(http.StatusNotFound, "not_found", "the Comfy API v2 has no path %.200q", r.URL.Path)
	}
	a, err := g.asset(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	h := w.Header()
	content, err := g.content(r.Context(), of, a)
	if err != nil {
		return err
	}
	defer content.Close()
	h.Set("Content-Type", a.ContentType)
	h.Set("Content-Disposition", disposition(a))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-cache")
	if a.Blob.Hash != "" {
		h.Set("ETag", `"`+a.Blob.Hash+`"`)
	}
	serveContent(w, r, a.Created.Truncate(time.Second), content)
	return nil
}

// disposition has browsers show pictures, videos, sounds and plain text, and store everything else: an HTML page or an SVG of
// somebody else would otherwise run with the rights of the gateway's own page.
func disposition(a *queue.Asset) string {
	kind, _, _ := mime.ParseMediaType(a.ContentType)
	how := "attachment"
	for _, shown := range []string{"image/", "video/", "audio/", "text/plain"} {
		if strings.HasPrefix(kind, shown) && !strings.Contains(kind, "svg") && !strings.Contains(kind, "xml") {
			how = "inline"
		}
	}
	if header := mime.FormatMediaType(how, map[string]string{"filename": path.Base(a.FilePath)}); header != "" && a.FilePath != "" {
		return header
	}
	return how
}

// content is what an asset contains.
func (g *Gateway) content(ctx context.Context, of *tenant, a *queue.Asset) (io.ReadSeekCloser, error) {
	if id, index, is := splitOutputID(a.ID); is && a.Blob.Object == "" {
		row, err := g.job(ctx, of, string(id))
		if err != nil {
			return nil, err
		}
		if o := &row.Last.Outputs[index]; inline(o) {
			return inMemory{strings.NewReader(o.Text)}, nil
		}
		return nil, unavailable(a)
	}
	content, err := g.q.SeekFile(ctx, a.Blob.Store, a.Blob.Object)
	if errors.Is(err, queue.ErrNoFile) {
		return nil, unavailable(a)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

func unavailable(a *queue.Asset) *refusal {
	return refuse(http.StatusNotFound, "output_unavailable", "the bytes of asset %s are not kept any more, or were left on the host that made them", a.ID)
}

type inMemory struct{ *strings.Reader }

func (inMemory) Close() error { return nil }

// inputObject is the name in COMFY_INPUTS of an asset's content. An output is copied there, once.
func (g *Gateway) inputObject(ctx context.Context, of *tenant, a *queue.Asset) (string, error) {
	if a.Blob.Store == names.InputsStore {
		_, err := g.q.StatFile(ctx, a.Blob.Store, a.Blob.Object)
		if errors.Is(err, queue.ErrNoFile) {
			return "", unavailable(a)
		}
		return a.Blob.Object, err
	}
	if a.Blob.Hash != "" {
		b, err := g.blob(ctx, of, a.Blob.Hash)
		if err == nil && b.Store == names.InputsStore {
			return b.Object, nil
		}
	}
	content, err := g.content(ctx, of, a)
	if err != nil {
		return "", err
	}
	defer content.Close()
	b, err := g.storeBlob(ctx, of, content)
	if err != nil {
		return "", err
	}
	b.Type = a.ContentType
	return b.Object, g.q.PutBlob(ctx, of.name, b)
}
