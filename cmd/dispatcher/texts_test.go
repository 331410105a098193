package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestATextIsShownAndWrittenToAFile(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	out := t.TempDir()
	const text = `{"7":{"class_type":"PreviewAny","inputs":{"source":"a cat on a mat"}}}`
	code, paths, say := f.ask(t, text, "submit", "-", "--id=told", "--out="+out)
	if code != 0 || !strings.Contains(say, `0 files, text of node 7: "a cat on a mat"`) {
		t.Fatalf("code %d, said %s", code, say)
	}
	path := strings.TrimSpace(paths)
	if filepath.Dir(path) != filepath.Join(out, "told") {
		t.Errorf("written to %s", path)
	}
	if body, err := os.ReadFile(path); err != nil || string(body) != "a cat on a mat" {
		t.Errorf("the file has %q, %v", body, err)
	}
	f.expect(t, 0, []string{"status", "told"}, "text of node 7:\n  a cat on a mat\n")
}
