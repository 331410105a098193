package bench_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/bench"
)

func TestAGatewayIsMeasuredInAllStages(t *testing.T) {
	t.Parallel()
	r, err := bench.RunGateway(t.Context(), bench.GatewayConfig{
		Time: 100 * time.Millisecond, Sockets: 6, Runs: 2, FileBytes: 3 << 20, Hosts: 12, StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Start; s.Prompts < 3 || s.Gateway.P50 <= 0 || s.NATS.P50 <= 0 || s.Answer.P50 <= 0 {
		t.Errorf("start: %+v", s)
	}
	if i := r.Info; i.Hosts != 12 || i.Bytes < 600_000 || i.Zipped == 0 || i.Zipped > i.Bytes/5 || i.Requests == 0 {
		t.Errorf("object_info: %+v", i)
	}
	if f := r.Files; f.Bytes != 3<<20 || f.Upload.BytesPerSecond <= 0 || f.Download.BytesPerSecond <= 0 || f.After == 0 {
		t.Errorf("files: %+v", f)
	}
	if s := r.Sockets; s.Expected != 12 || s.Received != s.Expected { // 2 previews of each of 2 runs, for 3 sockets each
		t.Errorf("sockets: %+v", s)
	}
}

func TestAStageOfTheGatewayCanBeChosen(t *testing.T) {
	t.Parallel()
	if _, err := bench.RunGateway(t.Context(), bench.GatewayConfig{Stages: []string{"none"}}); err == nil || !strings.Contains(err.Error(), "give some of start, object_info, files, sockets") {
		t.Errorf("err = %v", err)
	}
	r, err := bench.RunGateway(t.Context(), bench.GatewayConfig{Stages: []string{"files"}, FileBytes: 1000, StoreDir: t.TempDir()})
	if err != nil || r.Files == nil || r.Start != nil || r.Info != nil || r.Sockets != nil {
		t.Errorf("%+v: %v", r, err)
	}
}
