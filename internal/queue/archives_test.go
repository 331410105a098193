package queue_test

import (
	"archive/zip"
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAnArchiveIsTheSameWhereverItIsPacked(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"js/b.js": []byte("b"), "js/a.js": []byte("export const a = 1\n"), "ü ä.js": {}}
	packed := must(queue.PackArchive(files))
	for range 5 {
		if again := must(queue.PackArchive(files)); !bytes.Equal(again, packed) {
			t.Fatal("another archive of the same files")
		}
	}
	if diff := cmp.Diff(files, must(queue.OpenArchive(packed))); diff != "" {
		t.Error(diff)
	}
}

func FuzzArchivesUnpackToNoMoreThanTheyHave(f *testing.F) {
	f.Add(must(queue.PackArchive(map[string][]byte{"a": []byte("aaaa"), "b/c": []byte("b")})))
	var deflated bytes.Buffer
	w := zip.NewWriter(&deflated)
	part := must(w.Create("bomb"))
	_ = must(part.Write(make([]byte, 1<<20)))
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(deflated.Bytes())
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, packed []byte) {
		files, err := queue.OpenArchive(packed)
		if err != nil {
			return
		}
		for name, content := range files {
			if name == "" || len(content) > len(packed) {
				t.Errorf("%q has %d of %d bytes", name, len(content), len(packed))
			}
		}
	})
}
