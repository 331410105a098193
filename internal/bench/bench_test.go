package bench_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/bench"
)

func TestBench(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	r, err := bench.Run(ctx, bench.Config{Jobs: 10000, SkipRaw: os.Getenv("RAW") == ""})
	if err != nil {
		t.Fatal(err)
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", " ")
	_ = e.Encode(r)
}
