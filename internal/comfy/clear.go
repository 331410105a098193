package comfy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/google/uuid"
)

// kinds are ComfyUI's folders for files.
var kinds = [...]string{"output", "temp", "input"}

// Clear removes the files under comfyherd/<promptID> in ComfyUI's folders for outputs, temporary files and inputs, and in
// no other folder. Where those folders are on this machine (roots.go), files and folders are deleted. Elsewhere ComfyUI
// has no call that deletes a file: the known ones, from this process's uploads and results and from ComfyUI's record of
// the prompt, are overwritten by empty ones.
func (h *Host) Clear(ctx context.Context, promptID string) error {
	if id, err := uuid.Parse(promptID); err != nil || id.String() != promptID {
		return fmt.Errorf("clear the files of prompt %s: that is no prompt id", clip(oneLine(promptID), 60))
	}
	folder := ownFolder + "/" + promptID
	known := h.forgetFiles(promptID)
	var here []string
	for _, kind := range kinds {
		if h.deleteHere(ctx, kind, folder) {
			here = append(here, kind)
		}
	}
	if len(here) == len(kinds) {
		return nil
	}
	listed, err := h.filesOf(ctx, promptID)
	if err = errors.Join(err, h.emptyFiles(ctx, append(known, listed...), here)); err != nil {
		return fmt.Errorf("clear the files of prompt %s on %s: %w", promptID, h, err)
	}
	return nil
}

// emptyFiles overwrites the files that are there, but for kinds that were deleted already.
func (h *Host) emptyFiles(ctx context.Context, files []fileRef, deleted []string) error {
	seen := map[fileRef]bool{}
	for _, kind := range deleted {
		for _, s := range files {
			seen[s] = seen[s] || s.kind == kind
		}
	}
	for _, s := range files {
		if seen[s] {
			continue
		}
		seen[s] = true
		header, err := h.stat(ctx, s)
		if err != nil {
			return err
		}
		if header == nil || header.Get("Content-Length") == "0" {
			continue
		}
		if err := h.put(ctx, s, nil, true); err != nil && !errors.Is(err, ErrNoRoom) {
			return err
		}
	}
	return nil
}

// filesOf reads from ComfyUI's own record which files of ours a prompt has left and was given.
func (h *Host) filesOf(ctx context.Context, promptID string) ([]fileRef, error) {
	_, e, err := h.lookup(ctx, promptID)
	if err != nil || e == nil {
		return nil, err
	}
	var files []fileRef
	for _, o := range e.files {
		files = append(files, fileRef{o.Type, o.Subfolder, o.Filename})
	}
	for _, name := range namesIn(e.graph, ownFolder+"/"+promptID+"/") {
		folder, file := path.Split(name)
		files = append(files, fileRef{"input", strings.TrimSuffix(folder, "/"), file})
	}
	var own []fileRef
	for _, s := range files {
		if inFolder(s.subfolder, promptID) {
			own = append(own, s)
		}
	}
	return own, nil
}

// namesIn gives the inputs of a graph that begin with prefix.
func namesIn(raw json.RawMessage, prefix string) []string {
	var graph map[string]struct {
		Inputs map[string]text `json:"inputs"`
	}
	if decode(raw, &graph) != nil {
		return nil
	}
	var names []string
	for _, node := range graph {
		for _, value := range node.Inputs {
			if strings.HasPrefix(string(value), prefix) {
				names = append(names, string(value))
			}
		}
	}
	return names
}

// inFolder says whether a subfolder is the prompt's own.
func inFolder(subfolder, promptID string) bool {
	rest, own := strings.CutPrefix(path.Clean(strings.ReplaceAll(subfolder, `\`, "/")), ownFolder+"/"+promptID)
	return own && (rest == "" || rest[0] == '/')
}

// remember keeps the name of a file of ours, until its prompt is cleared.
func (h *Host) remember(s fileRef) {
	rest, own := strings.CutPrefix(strings.ReplaceAll(s.subfolder, `\`, "/"), ownFolder+"/")
	if !own {
		return
	}
	id, _, _ := strings.Cut(rest, "/")
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.files) >= maxRemembered {
		clear(h.files) // when a caller never calls Clear, this bounds the memory
	}
	h.files[id] = append(h.files[id], s)
}

// maxRemembered bounds the prompts whose files are remembered.
const maxRemembered = 4096

func (h *Host) forgetFiles(promptID string) []fileRef {
	h.mu.Lock()
	defer h.mu.Unlock()
	files := h.files[promptID]
	delete(h.files, promptID)
	return files
}
