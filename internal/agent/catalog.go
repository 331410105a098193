package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	largestRoute  = 64 << 20 // bytes of an answer that goes into the catalogue
	mostFolders   = 200      // of models
	routeTimeout  = 30 * time.Second
	objectInfo    = "object_info"
	foldersRoute  = "models"
	catalogWithin = 5 * time.Minute // for reading and storing all of it
)

// answerBuffer keeps what is written to it. Once that is more than largestRoute it keeps nothing.
type answerBuffer struct {
	bytes.Buffer
	over bool
}

func (b *answerBuffer) Write(p []byte) (int, error) {
	if b.over = b.over || b.Len()+len(p) > largestRoute; b.over {
		b.Buffer = bytes.Buffer{}
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// catalogue stores what ComfyUI says of itself, beside the health loop, which goes on probing. info is the answer of /object_info that
// was just read. While an earlier call works, a further one does nothing: the next reading is at most LearnEvery away.
func (h *host) catalogue(ctx context.Context, info *answerBuffer) {
	if info.Len() == 0 || h.cataloguing.Swap(true) {
		return
	}
	h.work.Go(func() {
		defer h.cataloguing.Store(false)
		ctx, cancel := context.WithTimeout(ctx, catalogWithin)
		defer cancel()
		if err := h.storeCatalog(ctx, h.answers(ctx, info.Bytes())); err != nil && ctx.Err() == nil {
			h.log.Warn("cannot store the catalogue of the host", "error", err)
		}
	})
}

// answers are the routes of the catalogue with their answers. What ComfyUI lacks or does not answer is left out.
func (h *host) answers(ctx context.Context, info []byte) map[string][]byte {
	all := map[string][]byte{objectInfo: info}
	routes := []string{foldersRoute, "embeddings", extensionsRoute, "i18n", "workflow_templates", subgraphsRoute, "node_replacements"}
	for i := 0; i < len(routes); i++ {
		body, err := h.answerOf(ctx, routes[i])
		if err != nil {
			h.log.Debug("left out of the catalogue", "route", routes[i], "error", err)
			continue
		}
		all[routes[i]] = body
		var folders []string
		if routes[i] != foldersRoute || json.Unmarshal(body, &folders) != nil {
			continue
		}
		for _, folder := range folders[:min(len(folders), mostFolders)] {
			if folder != "" && !strings.ContainsAny(folder, "/\\") && folder != "." && folder != ".." {
				routes = append(routes, foldersRoute+"/"+folder)
			}
		}
	}
	return all
}

// answerOf reads the JSON that ComfyUI answers to a GET.
func (h *host) answerOf(ctx context.Context, route string) ([]byte, error) {
	body, there, err := h.file(ctx, route, largestRoute)
	switch {
	case errors.Is(err, errTooLarge) || err == nil && there && !json.Valid(body):
		return nil, fmt.Errorf("the answer of /%s is no JSON of at most %d bytes", route, largestRoute)
	case err == nil && !there:
		return nil, fmt.Errorf("/%s answers HTTP status %d", route, http.StatusNotFound)
	}
	return body, err
}

// storeCatalog stores the answers and then the host's entry, if they differ from what is stored or that expires. A crash in between
// leaves answers that no entry names; they expire. The answer of /object_info is stored last: when the store is full it removes what
// is oldest, and that answer is needed most.
func (h *host) storeCatalog(ctx context.Context, answers map[string][]byte) error {
	all, err := h.files(ctx, answers, false)
	if err != nil {
		return err
	}
	old, there, err := h.q.Catalog(ctx, h.name)
	if err != nil {
		return err
	}
	c := h.catalogOf(all)
	if there && old.Version == c.Version && maps.Equal(old.Blobs, c.Blobs) && h.q.CatalogFresh(old.Time) {
		if h.kept(ctx, all) {
			return nil
		}
		if all, err = h.files(ctx, answers, true); err != nil {
			return err
		}
		c = h.catalogOf(all)
	}
	for route, body := range answers {
		if route != objectInfo {
			if _, err := h.q.StoreCatalogBlob(ctx, body); err != nil {
				return err
			}
		}
	}
	if _, err := h.q.StoreCatalogBlob(ctx, answers[objectInfo]); err != nil {
		return err
	}
	if err := h.q.PutCatalog(ctx, h.name, c); err != nil {
		return err
	}
	h.log.Info("stored the catalogue of the host", "files", len(c.Blobs))
	return nil
}

func (h *host) catalogOf(all map[string]stored) queue.Catalog {
	c := queue.Catalog{Host: h.name, Version: h.admission.state().Version, Blobs: map[string]string{}, Time: h.q.Now().UTC()}
	for route, file := range all {
		c.Blobs[route] = file.digest
	}
	return c
}

// files are all files of the catalogue. The archives among them are stored already; again has them read and stored anew.
func (h *host) files(ctx context.Context, answers map[string][]byte, again bool) (map[string]stored, error) {
	archives, err := h.archive(ctx, answers, again)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(archives)
	for route, body := range answers {
		all[route] = stored{queue.CatalogDigest(body), len(body)}
	}
	return all, nil
}

// kept reports whether the store still has the files: it may have been lost, or was full and has removed its oldest files. Of all, two
// are looked up: that of /object_info and any other one, not the same each time.
func (h *host) kept(ctx context.Context, all map[string]stored) bool {
	for _, file := range all { // a map has no order: the first is any of them
		info := all[objectInfo]
		return h.q.CatalogBlobKept(ctx, file.digest, file.size) && h.q.CatalogBlobKept(ctx, info.digest, info.size)
	}
	return true
}
