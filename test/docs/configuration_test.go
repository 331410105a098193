package docs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/test/docs"
)

func TestTheTableOfPresetsIsFresh(t *testing.T) {
	t.Parallel()
	const name = root + "/docs/configuration.md"
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| preset | failures that make a block | first block | second | third | longest |\n|---|---|---|---|---|---|\n")
	for _, preset := range route.Presets() {
		policy, _ := route.Preset(preset)
		fmt.Fprintf(&table, "| `%s` | %d | %s | %s | %s | %s |\n", preset, policy.MaxFailures,
			ageText(policy.BlockFor(0, 0)), ageText(policy.BlockFor(1, 0)), ageText(policy.BlockFor(2, 0)), ageText(policy.Cap))
	}
	fresh, err := docs.ReplaceGenerated(string(page), "presets", table.String())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if fresh != string(page) {
		t.Error("docs/configuration.md is not what the code has: go test ./test/docs -run TestTheTableOfPresets -update")
	}
}
