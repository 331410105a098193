package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Krita puts the pictures that a prompt reads into the memory of a ComfyUI, under ids, and gets those that it makes from there. Behind a
// gateway they are files: what was put is an input of each job that names its id, which the agent puts into the memory of whichever host
// runs the job, and what a node has left there the agent stores among the job's outputs.
const (
	cacheFolder = "etn" // of a tenant's inputs

	// largestCached is the most bytes of a picture that is put.
	largestCached = 256 << 20
	// pictureWait bounds waiting for the end of the prompt that makes a picture, as Krita itself waits.
	pictureWait = 5 * time.Minute
)

// cachedInput finds the picture that was put under an id; empty when there is none.
func (g *Gateway) cachedInput(ctx context.Context, name job.Tenant, id string) (string, error) {
	object := uploadName(name, cacheFolder, id)
	_, err := g.q.StatFile(ctx, names.InputsStore, object)
	if errors.Is(err, queue.ErrNoFile) {
		return "", nil
	}
	return object, err
}

// putPicture stores a picture among the tenant's inputs. One that was put under the id before is replaced: ids are short sums of the
// pictures, and what is stored begins its age anew.
func (g *Gateway) putPicture(w http.ResponseWriter, r *http.Request, of *tenant) error {
	id := r.PathValue("id")
	if !workflow.CachedID(id) {
		return malformed("the id of a picture has 1 to 128 of A-Z a-z 0-9 _ -")
	}
	timed := newTimedBody(w, r)
	defer timed.stop()
	_, err := g.q.Client(of.name).PutFile(r.Context(), uploadName(of.name, cacheFolder, id), "application/octet-stream", http.MaxBytesReader(w, r.Body, largestCached))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return &failed{http.StatusRequestEntityTooLarge, "payload_too_large", "the picture is too large: at most 256 MiB are taken"}
	}
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusCreated, map[string]string{"status": "success"})
	return nil
}

// getPicture answers a picture that a node has left. One of a prompt that still runs is answered when the prompt has ended: Krita asks as
// soon as the node has made it.
func (g *Gateway) getPicture(w http.ResponseWriter, r *http.Request, of *tenant) error {
	id := r.PathValue("id")
	if !workflow.CachedID(id) {
		return errNoView
	}
	ctx, cancel := context.WithTimeout(r.Context(), pictureWait)
	defer cancel()
	out, err := awaitPicture(ctx, of, id)
	if err != nil {
		return err
	}
	content, err := g.q.SeekFile(r.Context(), names.OutputsStore, out.Object)
	if errors.Is(err, queue.ErrNoFile) {
		return errNoView
	}
	if err != nil {
		return err
	}
	defer content.Close()
	viewHeaders(w, out.Filename, content.File.ContentType)
	w.Header().Set("ETag", `"`+strings.Trim(content.File.Digest, `"`)+`"`)
	serveContent(w, r, time.Time{}, content)
	return nil
}

// awaitPicture finds a picture, and waits for it while a prompt of the tenant runs.
func awaitPicture(ctx context.Context, of *tenant, id string) (job.Output, error) {
	if err := of.rows.refresh(ctx); err != nil {
		return job.Output{}, err
	}
	for {
		changed := of.rows.Changed()
		if out, found := findPicture(of.rows, id); found {
			return out, nil
		}
		if !slices.ContainsFunc(of.rows.Unfinished(), func(row Row) bool { return row.Begun() }) {
			return job.Output{}, errNoView
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return job.Output{}, ctx.Err()
		}
	}
}

func findPicture(rows *Rows, id string) (job.Output, bool) {
	ended := rows.Ended()
	for i := len(ended) - 1; i >= 0; i-- {
		if ended[i].Last == nil {
			continue
		}
		for _, o := range ended[i].Last.Outputs {
			if o.Type == workflow.CachedOutput && o.Object != "" && workflow.CachedName(o.Filename) == id {
				return o, true
			}
		}
	}
	return job.Output{}, false
}
