package comfysim

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// file is one stored file. Its bytes are never changed once stored.
type file struct {
	data []byte
	at   time.Time
}

// store is the host's disk, in memory: the folders input, output and temp. It outlives the process.
type store struct {
	mu       sync.Mutex
	files    map[string]file // by type/subfolder/name
	full     bool            // nothing can be written
	counters map[string]int  // highest number in use, by type/subfolder/prefix; absent means: count again
}

func newStore() *store {
	return &store{files: map[string]file{}, counters: map[string]int{}}
}

func (s *store) get(kind, subfolder, name string) (file, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[path.Join(kind, subfolder, name)]
	return f, ok
}

func (s *store) remove(kind, subfolder, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, path.Join(kind, subfolder, name))
	clear(s.counters)
}

// wipe empties one folder, as ComfyUI does with temp when it starts.
func (s *store) wipe(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.files {
		if strings.HasPrefix(key, kind+"/") {
			delete(s.files, key)
		}
	}
	clear(s.counters)
}

// names lists one folder, sub folders included, sorted.
func (s *store) names(kind string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for key := range s.files {
		if name, ok := strings.CutPrefix(key, kind+"/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// upload stores an input the way ComfyUI names it: the same bytes keep the name, other bytes get "in (1).png". On a full
// disk it leaves an empty file, and says so.
func (s *store) upload(kind, subfolder, name string, data []byte, overwrite bool) (stored string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i := 1; !overwrite; i++ {
		old, taken := s.files[path.Join(kind, subfolder, name)]
		if !taken {
			break
		}
		if bytes.Equal(old.data, data) {
			return name, true
		}
		name = fmt.Sprintf("%s (%d)%s", stem, i, ext)
	}
	if s.full && len(data) > 0 {
		s.files[path.Join(kind, subfolder, name)] = file{data: []byte{}, at: time.Now()}
		return name, false
	}
	s.files[path.Join(kind, subfolder, name)] = file{data: data, at: time.Now()}
	return name, true
}

func (s *store) fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// save stores an output under the next free counter of its prefix: sub/dir/name becomes subfolder sub/dir and
// name_00001 + ending. It returns the subfolder and the name; not ok is a full disk.
func (s *store) save(kind, prefix, ending string, data []byte) (subfolder, name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return "", "", false
	}
	subfolder, stem := path.Split(path.Clean(prefix))
	subfolder = strings.Trim(subfolder, "/")
	key := path.Join(kind, subfolder, stem)
	last, known := s.counters[key]
	if !known {
		last = s.highest(path.Join(kind, subfolder)+"/", stem+"_")
	}
	s.counters[key] = last + 1
	name = fmt.Sprintf("%s_%05d%s", stem, last+1, ending)
	s.files[path.Join(kind, subfolder, name)] = file{data: data, at: time.Now()}
	return subfolder, name, true
}

func (s *store) highest(dir, prefix string) int {
	last := 0
	for key := range s.files {
		rest, ok := strings.CutPrefix(key, dir+prefix)
		if !ok || strings.Contains(rest, "/") {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(rest, "%d", &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}
