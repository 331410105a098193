package workflow_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestLongTextsAreLeftOutAndNothingElse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`x\"`, 3000)
	kept := strings.Repeat("y", 4000) + `\\`
	body := `{"1":{"class_type":"ETN_LoadImageBase64","inputs":{"image":"` + long + `","a":"` + kept + `","b":""}},"2":{"class_type":"` + long + `"}}`
	want := `{"1":{"class_type":"ETN_LoadImageBase64","inputs":{"image":"","a":"` + kept + `","b":""}},"2":{"class_type":""}}`
	got, err := workflow.Shorten(strings.NewReader(body), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	got, err = workflow.Shorten(iotest.OneByteReader(strings.NewReader(body)), 10_000)
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if _, err := workflow.Shorten(strings.NewReader(body), 1000); !errors.Is(err, workflow.ErrLong) {
		t.Errorf("more than 1000 bytes are left, and the error is %v", err)
	}
	if _, err := workflow.Shorten(iotest.ErrReader(errors.New("gone")), 1000); err == nil || err.Error() != "gone" {
		t.Errorf("the reader fails, and the error is %v", err)
	}
}

// The inputs of a job may stand in the same file as its workflow.
func TestADataURIStaysOne(t *testing.T) {
	t.Parallel()
	body := `{"inputs":[{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0KGgo", 1000) + `"},{"url":"data:,a"}],"text":"dat` + strings.Repeat("a", 5000) + `"}`
	const want = `{"inputs":[{"url":"data:,"},{"url":"data:,a"}],"text":""}`
	for name, from := range map[string]io.Reader{"AtOnce": strings.NewReader(body), "ByteByByte": iotest.OneByteReader(strings.NewReader(body))} {
		if got, err := workflow.Shorten(from, 10_000); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestAGraphKeepsItsHashWithoutLongTexts(t *testing.T) {
	t.Parallel()
	body := `{"1":{"class_type":"LoadImageBase64","inputs":{"image":"` + strings.Repeat("iVBORw0KGgo", 10_000) + `","width":64,"height":32}},` +
		`"2":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"a.safetensors"}}}`
	short, err := workflow.Shorten(strings.NewReader(body), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	long, err := workflow.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	cut, err := workflow.Parse(short)
	if err != nil {
		t.Fatal(err)
	}
	if long.Hash() != cut.Hash() || long.Size() != cut.Size() {
		t.Errorf("hash %s and size %d, want %s and %d", cut.Hash(), cut.Size(), long.Hash(), long.Size())
	}
	if diff := cmp.Diff(long.Requirements(), cut.Requirements()); diff != "" {
		t.Error(diff)
	}
}
