package docs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/test/docs"
)

func TestConsoleTakesCommandsAndOutputsApart(t *testing.T) {
	t.Parallel()
	page := "A page.\n\n```console\n$ first\none\n\ntwo\n$ cat > f <<'END'\n> text\n> END\n```\n\n```sh\n$ no\n```\n\n```console\n$ last\n```\nEnd.\n"
	steps := docs.Console(page)
	var got []string
	for _, s := range steps {
		got = append(got, s.Command, s.Output)
	}
	want := []string{"first", "one\n\ntwo\n", "cat > f <<'END'\ntext\nEND", "", "last", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	changed := docs.WithOutputs(page, steps, []string{"1\n", "", "3\n"})
	if want := strings.Replace(strings.Replace(page, "one\n\ntwo\n", "1\n", 1), "$ last\n", "$ last\n3\n", 1); changed != want {
		t.Errorf("got\n%s\nwant\n%s", changed, want)
	}
}

func TestOutputsOfTwoRunsAreAlike(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"ran 12ms, waited 1.2s\n", "ran 1.1s,  waited 900ms"},
		{"HOST   LIFTS\ngpu-1  in 1m2s\n", "HOST LIFTS\ngpu-1     in 59s"},
		{"at 12:00:01.5", "at 09:59:59"},
		{"2026-11-29T02:00:00Z 3.1 KiB", "2026-11-30T02:00:00Z 900 B"},
		{"http://127.0.0.1:8188", "http://127.0.0.1:33019"},
	} {
		if a, b := docs.Alike(pair[0]), docs.Alike(pair[1]); a != b {
			t.Errorf("%q and %q differ", a, b)
		}
	}
	if docs.Alike("job a on gpu-1") == docs.Alike("job a on gpu-2") || docs.Alike("2 blocks") == docs.Alike("3 blocks") {
		t.Error("what matters was replaced")
	}
}
