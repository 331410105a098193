package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// Node packs bring scripts for ComfyUI's page, and ComfyUI and packs bring subgraphs. A page reads all of them when it starts. So each
// pack's scripts, and all subgraphs, are one file of the catalogue: whoever reads it has files that fit together, and its digest says which
// hosts have the same version.
const (
	subgraphsRoute  = "global_subgraphs"
	extensionsRoute = "extensions"
	pageItself      = "core" // stands for a pack in /extensions, and is a part of ComfyUI's page

	largestArchive = 16 << 20 // bytes of the files in one
	mostArchived   = 2000     // files in one
	mostPacks      = 300
	allArchives    = 64 << 20 // bytes of all files of a host
	archivesEvery  = time.Hour

	// readingsBetween is how many readings of the catalogue lie between two of the archives when not all could be read, or the store has lost
	// some of them: it may be too small for all, and what one host stores again removes what others have.
	readingsBetween = 10
)

// errTooLarge says that what a host has of a pack is more than the catalogue takes.
var errTooLarge = errors.New("it is larger than what the catalogue takes")

// archives are those of a host that were stored last. Only the goroutine that reads the catalogue uses them.
type archives struct {
	process string            // ComfyUI's; packs are loaded when it starts
	listed  string            // digest of what they were read from
	read    time.Time         // when they were read
	due     time.Time         // when they are read again
	stored  map[string]stored // by route
}

// stored is a file of the catalogue.
type stored struct {
	digest string
	size   int
}

// archive reads and stores the archives. Those of before are kept, unless ComfyUI lists others, was started again, or an hour has passed; again
// has them read when that was not a moment ago. One that ComfyUI does not answer or that is too large is left out.
func (h *host) archive(ctx context.Context, answers map[string][]byte, again bool) (map[string]stored, error) {
	a := &h.archives
	process, listed := h.processNow(), queue.CatalogDigest(answers[extensionsRoute])+queue.CatalogDigest(answers[subgraphsRoute])
	now, pause := time.Now(), readingsBetween*h.cfg.LearnEvery
	again = again && now.Sub(a.read) >= pause
	if !again && a.process == process && a.listed == listed && now.Before(a.due) {
		return a.stored, nil
	}
	*a = archives{process: process, listed: listed, read: now, stored: map[string]stored{}}
	room, whole := allArchives, true
	wanted := scripts(answers[extensionsRoute])
	wanted[subgraphsRoute] = subgraphs(answers[subgraphsRoute])
	for _, route := range slices.Sorted(maps.Keys(wanted)) {
		files, size, err := h.filesBelow(ctx, route, wanted[route], min(room, largestArchive))
		if err != nil {
			h.log.Debug("left out of the catalogue", "route", route, "error", err)
			whole = whole && errors.Is(err, errTooLarge) // which it stays
			continue
		}
		if len(files) == 0 {
			continue
		}
		room -= size
		packed, err := queue.PackArchive(files)
		if err != nil {
			return nil, err
		}
		digest, err := h.q.StoreCatalogBlob(ctx, packed)
		if err != nil {
			return nil, err
		}
		a.stored[queue.ArchiveRoute(route)] = stored{digest, len(packed)}
	}
	a.due = now.Add(archivesEvery)
	if !whole {
		a.due = now.Add(pause)
	}
	return a.stored, nil
}

// filesBelow reads files below a route. One that ComfyUI lists and does not have is left out.
func (h *host) filesBelow(ctx context.Context, route string, listed []string, most int) (files map[string][]byte, size int, err error) {
	files = map[string][]byte{}
	for _, name := range listed {
		body, there, err := h.file(ctx, route+"/"+name, most-size)
		if err != nil {
			return nil, 0, err
		}
		if there {
			files[name] = body
			size += len(body)
		}
	}
	return files, size, nil
}

// file reads what ComfyUI answers to a GET; there is false for the status 404.
func (h *host) file(ctx context.Context, route string, most int) (body []byte, there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	page, err := h.comfy.Page(ctx, route, nil)
	if err != nil {
		return nil, false, err
	}
	defer page.Body.Close()
	switch {
	case page.Status == http.StatusNotFound:
		return nil, false, nil
	case page.Status != http.StatusOK:
		return nil, false, fmt.Errorf("/%s answers HTTP status %d", route, page.Status)
	}
	body, err = io.ReadAll(io.LimitReader(page.Body, int64(most)+1))
	if err != nil {
		return nil, false, fmt.Errorf("read /%s: %w", route, err)
	}
	if len(body) > most {
		return nil, false, fmt.Errorf("read /%s: %w", route, errTooLarge)
	}
	return body, true, nil
}

// scripts are the files that /extensions lists, by the route of their pack.
func scripts(listed []byte) map[string][]string {
	var paths []string
	_ = json.Unmarshal(listed, &paths) // what was read is JSON; one of another form has no scripts
	packs := map[string][]string{}
	for _, path := range paths {
		rest, _ := strings.CutPrefix(path, "/"+extensionsRoute+"/")
		quoted, file, _ := strings.Cut(rest, "/")
		pack, err := url.PathUnescape(quoted)
		route := extensionsRoute + "/" + pack
		if err != nil || pack == "" || pack == pageItself || strings.Contains(pack, "/") || file == "" || !passes(route+"/"+file) {
			continue
		}
		if _, known := packs[route]; (known || len(packs) < mostPacks) && len(packs[route]) < mostArchived {
			packs[route] = append(packs[route], file)
		}
	}
	return packs
}

// subgraphs are the ids that /global_subgraphs lists.
func subgraphs(listed []byte) []string {
	var entries map[string]json.RawMessage
	_ = json.Unmarshal(listed, &entries) // as in scripts
	ids := slices.Sorted(maps.Keys(entries))
	ids = slices.DeleteFunc(ids, func(id string) bool { return strings.Contains(id, "/") || !passes(subgraphsRoute+"/"+id) })
	return ids[:min(len(ids), mostArchived)]
}
