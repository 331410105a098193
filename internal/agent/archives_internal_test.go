package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// shelf is a ComfyUI that has files by their route. Some texts stand for answers without one.
type shelf struct {
	ComfyUI
	files map[string]string
}

func (s shelf) Page(_ context.Context, route string, _ url.Values) (*comfy.Page, error) {
	text := s.files[route]
	p := &comfy.Page{Status: 200, Body: io.NopCloser(strings.NewReader(text))}
	switch text {
	case "":
		p.Status = 404
	case "500":
		p.Status = 500
	case "away":
		return nil, errors.New("connection refused")
	case "breaks":
		p.Body = io.NopCloser(io.MultiReader(strings.NewReader("1"), iotest.ErrReader(errors.New("the wire is cut"))))
	}
	return p, nil
}

// What was read in part, or is too large, must not be taken for what a pack has.
func TestFilesOfTheCatalogueAreReadWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	h := &host{comfy: shelf{files: map[string]string{
		"p/six": "123456", "p/four": "1234", "p/five": "12345", "p/error": "500", "p/away": "away", "p/breaks": "breaks", "p/json": "[1]",
	}}}
	for listed, c := range map[string]struct {
		size    int
		fails   bool
		tooMuch bool
	}{
		"six four": {size: 10}, "six gone four": {size: 10}, "gone": {}, "six five": {fails: true, tooMuch: true}, "four error": {fails: true},
		"away": {fails: true}, "breaks": {fails: true}, "five five": {size: 10},
	} {
		names := strings.Fields(listed)
		files, size, err := h.filesBelow(t.Context(), "p", names, 10)
		if (err != nil) != c.fails || errors.Is(err, errTooLarge) != c.tooMuch || size != c.size || c.fails && files != nil {
			t.Errorf("%s: %q of %d bytes, %v", listed, files, size, err)
		}
		for name, content := range files {
			if content == nil || name == "gone" {
				t.Errorf("%s: %s has %q", listed, name, content)
			}
		}
	}
	for route, want := range map[string]string{"p/json": "[1]", "p/six": "123456", "p/gone": "", "p/error": "", "p/away": "", "p/breaks": ""} {
		if body, err := h.answerOf(t.Context(), route); string(body) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", route, body, err)
		}
	}
}

// What a node pack lists may be of any length.
func TestTheCatalogueTakesOnlySoManyScriptsAndSubgraphs(t *testing.T) {
	t.Parallel()
	var paths []string
	for pack := range mostPacks + 10 {
		for file := range 2 {
			paths = append(paths, fmt.Sprintf("/extensions/p%d/%d.js", pack, file))
		}
	}
	for file := range mostArchived + 10 {
		paths = append(paths, fmt.Sprintf("/extensions/p0/%d.css", file))
	}
	paths = append(paths, "/extensions/%zz/a.js", "/extensions//a.js")
	listed, err := json.Marshal(paths)
	if err != nil {
		t.Fatal(err)
	}
	packs := scripts(listed)
	first, last := packs["extensions/p0"], packs[fmt.Sprint("extensions/p", mostPacks-1)]
	if len(packs) != mostPacks || len(first) != mostArchived || len(last) != 2 {
		t.Errorf("there are %d packs, of which the first has %d files and the last %d", len(packs), len(first), len(last))
	}
	for _, odd := range []string{"extensions/", "extensions/%zz"} {
		if files, taken := packs[odd]; taken {
			t.Errorf("%s has %q", odd, files)
		}
	}
	entries := map[string]int{"a/b": 1}
	for i := range mostArchived + 1 {
		entries[fmt.Sprintf("id%05d", i)] = i
	}
	listed, err = json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	if ids := subgraphs(listed); len(ids) != mostArchived || ids[0] != "id00000" {
		t.Errorf("there are %d subgraphs, of which %s is the first", len(ids), ids[0])
	}
	if ids := subgraphs([]byte(`{"one":{}}`)); len(ids) != 1 {
		t.Errorf("of one subgraph there are %q", ids)
	}
}
