package daemon_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

const digestOfABC = "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=" // of abc

// shelf is a store with one file, that remembers from where it was read.
type shelf struct {
	body   string
	breaks int // after how many bytes reading fails; 0: never
	from   []int64
}

var errCut = errors.New("the line is cut")

func (s *shelf) open(_ context.Context, _ string, offset int64) (io.ReadCloser, error) {
	s.from = append(s.from, offset)
	rest := io.Reader(strings.NewReader(s.body[offset:]))
	if s.breaks > 0 {
		rest = io.MultiReader(io.LimitReader(rest, int64(s.breaks)), cutLine{})
	}
	return io.NopCloser(rest), nil
}

func saverOf(s *shelf) *daemon.Saver { return &daemon.Saver{Open: s.open} }

type cutLine struct{}

func (cutLine) Read([]byte) (int, error) { return 0, errCut }

// left are the files beside path.
func left(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestAFileIsWrittenOnlyWhenItIsTheOneOfTheEvent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "job", "a.txt")
	o := job.Output{Object: "o", Size: 3, Digest: digestOfABC}
	other := shelf{body: "abd"}
	if err := saverOf(&other).Save(t.Context(), &o, path); err == nil || !strings.Contains(err.Error(), "is not the file that the job made") {
		t.Errorf("another file was taken: %v", err)
	}
	if names := left(t, path); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
	right := shelf{body: "abc"}
	if err := saverOf(&right).Save(t.Context(), &o, path); err != nil || content(t, path) != "abc" {
		t.Errorf("got %v", err)
	}
	o.Digest = "" // of an agent that tells none
	right.body = "new"
	if err := saverOf(&right).Save(t.Context(), &o, path); err != nil || content(t, path) != "new" {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatIsThereIsNotFetchedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.txt")
	o := job.Output{Object: "o", Size: 3, Digest: digestOfABC}
	s := shelf{body: "abc"}
	for range 2 {
		if err := saverOf(&s).Save(t.Context(), &o, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("abx"), 0o600); err != nil { // somebody has changed it
		t.Fatal(err)
	}
	if err := saverOf(&s).Save(t.Context(), &o, path); err != nil || content(t, path) != "abc" {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]int64{0, 0}, s.from); diff != "" {
		t.Errorf("read from %s", diff)
	}
}

func TestAFileThatWasBegunIsGoneOnWith(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.txt")
	o := job.Output{Object: "o", Size: 3, Digest: digestOfABC}
	s := shelf{body: "abc", breaks: 2}
	if err := saverOf(&s).Save(t.Context(), &o, path); !errors.Is(err, errCut) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff([]string{".a.txt.partial"}, left(t, path)); diff != "" {
		t.Errorf("it left %s", diff)
	}
	s.breaks = 0
	if err := saverOf(&s).Save(t.Context(), &o, path); err != nil || content(t, path) != "abc" {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]int64{0, 2}, s.from); diff != "" {
		t.Errorf("read from %s", diff)
	}

	for _, begun := range []string{"xy", "xyz", "much more"} { // of another file
		if err := errors.Join(os.Remove(path), os.WriteFile(filepath.Join(filepath.Dir(path), ".a.txt.partial"), []byte(begun), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := saverOf(&s).Save(t.Context(), &o, path); err != nil || content(t, path) != "abc" {
			t.Errorf("%s: got %v", begun, err)
		}
		if diff := cmp.Diff([]string{"a.txt"}, left(t, path)); diff != "" {
			t.Errorf("%s: it left %s", begun, diff)
		}
	}
}

func TestAFileWithALongNameIsGoneOnWithToo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 251)+".png")
	o := job.Output{Object: "o", Size: 3, Digest: digestOfABC}
	s := shelf{body: "abc", breaks: 1}
	if err := saverOf(&s).Save(t.Context(), &o, path); !errors.Is(err, errCut) {
		t.Fatalf("got %v", err)
	}
	s.breaks = 0
	if err := saverOf(&s).Save(t.Context(), &o, path); err != nil || content(t, path) != "abc" {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]int64{0, 1}, s.from); diff != "" {
		t.Errorf("read from %s", diff)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestOutputsKeepTheirNamesAndStayInTheirFolder(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, step := range []struct{ node, file, want string }{
		{"9", "ComfyUI_00001_.png", "ComfyUI_00001_.png"},
		{"12", "ComfyUI_00001_.png", "12-ComfyUI_00001_.png"},
		{"12", "ComfyUI_00001_.png", "_12-ComfyUI_00001_.png"},
		{"9", "../../etc/passwd", "passwd"},
		{"9", "..", "file"},
		{"../9", "passwd", "9-passwd"},
	} {
		if got := daemon.FileName(&job.Output{Node: step.node, Filename: step.file}, taken); got != step.want {
			t.Errorf("%s of node %s: got %s, want %s", step.file, step.node, got, step.want)
		}
	}
}

func TestATextIsAFileOfItsNode(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, want := range []string{"4.txt", "4-4.txt"} {
		if got := daemon.FileName(&job.Output{Node: "4", Media: "text"}, taken); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
