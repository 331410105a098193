package job_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestTheIDOfATraceIsThePublishersOrMadeOfTheJob(t *testing.T) {
	t.Parallel()
	created := time.Unix(1_700_000_000, 5)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if id := job.TraceID("acme", "one", created, parent); id != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("the publisher's is %s", id)
	}
	own := job.TraceID("acme", "one", created, "nonsense")
	if len(own) != 32 || own == job.TraceID("acme", "two", created, "") || own != job.TraceID("acme", "one", created, "") || own == job.TraceID("acme", "one", created.Add(1), "") {
		t.Errorf("that of the job is %s", own)
	}
}

func TestABodyIsToldWhereItMayRun(t *testing.T) {
	t.Parallel()
	const graph = `{"1":{"class_type":"A","inputs":{"seed":9007199254740993}}}`
	for name, c := range map[string]struct{ body, want string }{
		"Bare":  {graph, `{"only_hosts":["gpu-1"],"workflow":` + graph + `}`},
		"Plain": {`{"workflow":` + graph + `}`, `{"only_hosts":["gpu-1"],"workflow":` + graph + `}`},
		"Other": {
			`{"only_hosts":["gpu-2"], "workflow":` + graph + `,"exclude_hosts":["gpu-1"],"name":"x","prefer_hosts":["gpu=4090"]}`,
			`{"only_hosts":["gpu-1"], "workflow":` + graph + `,"name":"x"}`,
		},
	} {
		if got := string(job.WithOnlyHosts([]byte(c.body), []string{"gpu-1"})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if err := job.CheckHosts([]string{"gpu-1", "gpu=4090"}); err != nil {
		t.Error(err)
	}
	if err := job.CheckHosts([]string{"gpu 1"}); err == nil {
		t.Error("a name with a space is none")
	}
}
