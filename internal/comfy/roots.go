package comfy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// deleteHere deletes a folder of ours from one of ComfyUI's, if that folder can be reached on this machine.
func (h *Host) deleteHere(ctx context.Context, kind, folder string) (done bool) {
	root := h.root(ctx, kind)
	if root == "" {
		return false
	}
	inside, err := os.OpenRoot(root) // links cannot lead out of it
	if err != nil {
		h.forgetRoots()
		return false
	}
	defer inside.Close()
	err = inside.RemoveAll(folder)
	return err == nil || errors.Is(err, fs.ErrNotExist) // else this process may not delete there: files are emptied over HTTP
}

// root is the path of one of ComfyUI's folders on this machine, empty when it is not on it. The proof is a file that was
// written over HTTP and is found there with its content. The answer is kept for the life of this process.
func (h *Host) root(ctx context.Context, kind string) string {
	h.mu.Lock()
	root, known := h.roots[kind]
	h.mu.Unlock()
	if known {
		return root
	}
	if candidates := h.candidates(ctx, kind); len(candidates) > 0 {
		s := fileRef{kind, ownFolder, "here.txt"}
		content := uuid.NewString()
		if err := h.put(ctx, s, []byte(content), true); err != nil {
			return "" // asked again at the next time
		}
		for _, candidate := range candidates {
			if found(candidate, s, content) {
				root = candidate
				break
			}
		}
		if root == "" {
			_ = h.put(ctx, s, nil, true)
		}
	}
	h.mu.Lock()
	h.roots[kind] = root
	h.mu.Unlock()
	return root
}

// found looks for the file, and removes it again.
func found(root string, s fileRef, content string) bool {
	inside, err := os.OpenRoot(root)
	if err != nil {
		return false
	}
	defer inside.Close()
	name := s.subfolder + "/" + s.name
	got, err := inside.ReadFile(name)
	if err != nil || string(got) != content {
		return false
	}
	return inside.Remove(name) == nil // otherwise nothing can be deleted there
}

func (h *Host) forgetRoots() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.roots)
}

// candidates are where a folder may be on this machine, by what ComfyUI says of its command line and folders.
func (h *Host) candidates(ctx context.Context, kind string) []string {
	var stats struct {
		System struct {
			Argv texts `json:"argv"`
		} `json:"system"`
	}
	if h.ask(ctx, "/system_stats", &stats) != nil {
		return nil
	}
	bases := []string{option(stats.System.Argv, "--base-directory")}
	var folders map[string]texts
	if h.ask(ctx, "/internal/folder_paths", &folders) == nil {
		for _, custom := range folders["custom_nodes"] {
			bases = append(bases, filepath.Dir(custom))
		}
		for _, models := range folders["checkpoints"] {
			bases = append(bases, filepath.Dir(filepath.Dir(models)))
		}
	}
	given := option(stats.System.Argv, "--"+kind+"-directory")
	if given != "" && kind == "temp" {
		given = filepath.Join(given, "temp")
	}
	all := []string{given}
	for _, base := range bases {
		if given == "" {
			all = append(all, filepath.Join(base, kind))
		} else if !filepath.IsAbs(given) {
			all = append(all, filepath.Join(base, given))
		}
	}
	all = slices.DeleteFunc(all, func(dir string) bool { return !filepath.IsAbs(dir) }) // such as those below an option that was not given
	slices.Sort(all)
	return slices.Compact(all)
}

// option finds --name value or --name=value.
func option(argv []string, name string) string {
	for i, word := range argv {
		if word == name && i+1 < len(argv) {
			return argv[i+1]
		}
		if value, is := strings.CutPrefix(word, name+"="); is {
			return value
		}
	}
	return ""
}
