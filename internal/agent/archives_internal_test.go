package agent

import (
	"encoding/json"
	"fmt"
	"testing"
)

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
