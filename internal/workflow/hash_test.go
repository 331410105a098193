package workflow_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

type vector struct {
	Name     string `json:"name"`
	Workflow string `json:"workflow_json"`
	SHA256   string `json:"sha256"`
}

func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	if len(v.Vectors) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	return v.Vectors
}

func TestHashEqualsTheReference(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "testdata/hash-vectors.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			got, err := workflow.HashOf([]byte(v.Workflow))
			if err != nil || string(got) != v.SHA256 {
				t.Fatalf("HashOf = %s, %v; want %s", got, err, v.SHA256)
			}
		})
	}
}
