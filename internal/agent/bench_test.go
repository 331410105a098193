package agent_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// instant is a ComfyUI that finishes every prompt at once.
type instant struct{ *fake }

func (instant) Run(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	w.Running()
	return &comfy.Result{}, nil
}

// BenchmarkJobs is an attempt from the offer to the stored completed event, on one host with 16 slots.
func BenchmarkJobs(b *testing.B) {
	s := startNATS(b, b.TempDir(), -1)
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithCancel(context.Background())
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	a, err := agent.New(q, agent.Config{Slots: 16, Hosts: []agent.HostConfig{{Name: "gpu", Comfy: instant{newFake()}}}})
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = a.Run(ctx, ctx) })
	for a.Health() != nil {
		<-time.After(time.Millisecond)
	}
	hash, err := workflow.HashOf([]byte(saves))
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			o := queue.Offer{
				Message: job.Message{Tenant: "acme", Priority: 5, Sequence: i, Received: time.Now(), Body: []byte(saves)},
				Job:     job.ID(fmt.Sprint(i)), Hash: hash, Attempt: 1, Lease: "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0", AckWait: time.Minute,
			}
			for {
				r, err := q.Offer(ctx, "gpu", &o)
				if err != nil {
					b.Error(err)
					return
				}
				if r.Answer == queue.Accepted {
					break
				}
			}
		}
	})
	for {
		state, _, err := q.Host(ctx, "gpu")
		if err == nil && len(state.Running) == 0 {
			return
		}
	}
}
