package integration_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Three servers know the same folder; one at a time is away.
func TestAClosedClusterOfThreeLosesOneServerAtATimeAndNoJob(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers in one process")
	}
	t.Parallel()
	folder, err := natsserver.InitAccess(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &closed{fleet: &fleet{t: t, sims: map[string]*comfysim.Server{}, dir: t.TempDir()}, folder: folder}
	var cluster *natsserver.Cluster
	f.follow(func(cfg natsserver.Config) (tell func(string) error, err error) {
		if cluster, err = natsserver.StartCluster(3, cfg); err != nil {
			return nil, err
		}
		return cluster.UpdateAccount, nil
	})
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	f.url = cluster.URL()
	f.begin(queue.Config{Replicas: 3, AckWait: 5 * time.Second}, names("gpu-1", "gpu-2")...)

	acme, _ := f.tenant("acme")
	bolt, refused := f.tenant("bolt")
	var jobs []string
	submit := func(n int) {
		for range n {
			id := fmt.Sprint("job-", len(jobs))
			jobs = append(jobs, id)
			f.eventually("a publish of "+id, func() bool {
				msg := nats.NewMsg("comfy.jobs.acme.5")
				msg.Header.Set("Comfy-Job-Id", id)
				msg.Data = envelope(t, job.Spec{ID: job.ID(id), Workflow: sleep(len(jobs), 0.2)})
				answer, err := acme.RequestMsg(msg, 5*time.Second)
				var ack struct{ Stream string }
				return err == nil && json.Unmarshal(answer.Data, &ack) == nil && ack.Stream == "COMFY_JOBS"
			})
		}
	}
	for lost := range 3 {
		submit(4)
		if err := cluster.Stop(lost); err != nil {
			t.Fatal(err)
		}
		submit(2)
		if err := cluster.Start(lost); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("all jobs ended", func() bool {
		for _, id := range jobs {
			link, found, err := f.q.Last(f.context(), "acme", job.ID(id))
			if err != nil || !found || !link.EventKind.Terminal() {
				return false
			}
		}
		return true
	})
	for _, id := range jobs {
		if link, _, err := f.q.Last(f.context(), "acme", job.ID(id)); err != nil || link.EventKind != job.Completed {
			t.Errorf("job %s ended %s: %s, %v", id, link.EventKind, link.Message, err)
		}
	}
	if err := bolt.Publish("comfy.jobs.acme.5", envelope(t, job.Spec{Workflow: picture(1)})); err != nil {
		t.Fatal(err)
	}
	f.refusal(refused, "comfy.jobs.acme.5")
}
