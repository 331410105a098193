package queue

import (
	"archive/zip"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/jetstream"
)

// ArchiveRoute is the key in Catalog.Blobs of the archive of what is below a route, such as extensions/pack/.
func ArchiveRoute(route string) string { return route + "/" }

// PackArchive gives an archive of files: a zip, uncompressed and without times, so that the same files have the same digest wherever they
// are packed.
func PackArchive(files map[string][]byte) ([]byte, error) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		part, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = part.Write(files[name])
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack an archive: %w", err)
	}
	return packed.Bytes(), nil
}

// OpenArchive gives the files of an archive by name. They are parts of the archive itself, so it unpacks to no more than it has. An
// entry that is compressed, has a name of another form or lies outside is left out.
func OpenArchive(packed []byte) (map[string][]byte, error) {
	r, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return nil, fmt.Errorf("open an archive of a catalogue: %w: %w", err, jetstream.ErrDamaged)
	}
	files := make(map[string][]byte, len(r.File))
	for _, f := range r.File {
		offset, err := f.DataOffset()
		if err != nil || f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 || f.Name == "" || strings.HasSuffix(f.Name, "/") {
			continue
		}
		if size := f.UncompressedSize64; offset >= 0 && offset <= int64(len(packed)) && size <= uint64(int64(len(packed))-offset) {
			files[f.Name] = packed[offset : offset+int64(size) : offset+int64(size)]
		}
	}
	return files, nil
}
