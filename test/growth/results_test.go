package growth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// films is a ComfyUI of which every prompt leaves one large file at once.
type films struct {
	size int64
	peak *memory
	none chan struct{}
}

func (f *films) Run(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	w.Running()
	return &comfy.Result{Outputs: []comfy.Output{{Node: "9", Media: "video", Filename: "film.mp4", Type: "output"}}}, nil
}

func (f *films) Open(context.Context, comfy.Output) (io.ReadCloser, string, int64, error) {
	return io.NopCloser(io.LimitReader(f.peak.watch(zeros{}), f.size)), "video/mp4", f.size, nil
}

func (f *films) Cancel(context.Context, string) error                              { return nil }
func (f *films) Find(context.Context, string) (comfy.PromptState, error)           { return comfy.Ended, nil }
func (f *films) Free(context.Context) error                                        { return nil }
func (f *films) SeedLimit(string, string) (uint64, bool)                           { return 0, false }
func (f *films) Listen(ctx context.Context) error                                  { <-ctx.Done(); return ctx.Err() }
func (f *films) Changed() <-chan struct{}                                          { return f.none }
func (f *films) State() comfy.State                                                { return comfy.State{Connected: true} }
func (f *films) Probe(context.Context) (comfy.Probe, error)                        { return comfy.Probe{}, nil }
func (f *films) Survey(context.Context) (comfy.Probe, error)                       { return comfy.Probe{}, nil }
func (f *films) Sick(context.Context) (string, failure.Cause, error)               { return "", "", nil }
func (f *films) Process(context.Context) (string, error)                           { return "films", nil }
func (f *films) ProbeSubmit(context.Context) error                                 { return nil }
func (f *films) ProbeRoom(context.Context) error                                   { return nil }
func (f *films) Spelling(_, _, file string) string                                 { return file }
func (f *films) Has(string) bool                                                   { return false }
func (f *films) Clear(context.Context, string) error                               { return nil }
func (f *films) Discard(string)                                                    {}
func (f *films) Upload(context.Context, string, string, io.Reader) (string, error) { return "", nil }
func (f *films) PutCached(context.Context, string, io.Reader) error                { return nil }

func (f *films) Record(context.Context, string) ([]byte, error) { return nil, nil }

func (f *films) Page(context.Context, string, url.Values) (*comfy.Page, error) {
	return nil, errors.New("films have no routes")
}

func (f *films) Capability(context.Context, io.Writer) (workflow.Capability, error) {
	var b workflow.CapabilityBuilder
	b.AddClass("SaveVideo")
	return workflow.NewCapability(&b), nil
}

// Eight jobs whose results are large end at once on one agent: all of them arrive, at the first attempt, and the agent
// holds a bounded part of them. COMFYHERD_GROWTH_UPLOAD_MB=600 is the proof.
func TestLargeResultsOfEightJobsArriveThroughOneAgentInBoundedMemory(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	const jobs, most = 8, 100 << 20
	size := int64(24)
	if text := os.Getenv(uploadVariable); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	size <<= 20
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	nc, err := nats.Connect(startNATS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var peak memory
	a, err := agent.New(q, agent.Config{Slots: jobs, Hosts: []agent.HostConfig{{Name: "gpu", Comfy: &films{size: size, peak: &peak, none: make(chan struct{})}}}})
	if err != nil {
		t.Fatal(err)
	}
	stop, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	running.Go(func() {
		if err := a.Run(stop, ctx); err != nil {
			t.Errorf("the agent has ended: %v", err)
		}
	})
	offers := offersOf(ctx, t, q, jobs)
	idle := held()
	for i := range offers {
		for r := (queue.Reply{}); r.Answer != queue.Accepted; {
			if r, err = q.Offer(ctx, "gpu", &offers[i]); err != nil && ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range offers {
		for e, err := range q.Follow(ctx, "acme", offers[i].Job) {
			if err != nil {
				t.Fatal(err)
			}
			if e.EventKind == job.Failed || e.EventKind == job.Completed && (len(e.Outputs) != 1 || e.Outputs[0].Size != size) {
				t.Errorf("job %s: %+v", e.Job, e)
			}
			if e.EventKind == job.Failed || e.EventKind == job.Completed {
				break
			}
		}
	}
	t.Logf("%d results of %d MB: %d MB above idle", jobs, size>>20, (peak.most-min(idle, peak.most))>>20)
	if peak.most > idle+most {
		t.Errorf("%d MB of memory above idle", (peak.most-idle)>>20)
	}
}

// offersOf submits jobs and does what a dispatcher does before it offers them.
func offersOf(ctx context.Context, t *testing.T, q *queue.Queue, n int) []queue.Offer {
	t.Helper()
	for i := range n {
		_, err := q.Submit(ctx, job.Lane{Tenant: "acme", Priority: 5}, job.Spec{
			ID: job.ID(fmt.Sprint("film-", i)), Workflow: []byte(`{"9":{"class_type":"SaveVideo","inputs":{"filename_prefix":"film"}}}`),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	deliveries := make(chan queue.Delivery, n)
	puller, err := q.Puller(5, func(d queue.Delivery) { deliveries <- d })
	if err != nil {
		t.Fatal(err)
	}
	defer puller.Close()
	if got, err := puller.Pull(ctx, n, time.Minute); err != nil || got != n {
		t.Fatalf("%d jobs were delivered: %v", got, err)
	}
	offers := make([]queue.Offer, 0, n)
	for range n {
		d := <-deliveries
		j, err := job.Parse(d.Message)
		if err != nil {
			t.Fatal(err)
		}
		e := j.NewEvent(job.Queued, q.Now())
		last, err := q.Append(ctx, &e, 0, "test", "")
		if err != nil {
			t.Fatal(err)
		}
		offers = append(offers, queue.Offer{
			Message: d.Message, Job: j.ID, Hash: j.Graph.Hash(), Attempt: 1, Lease: d.Lease, AckWait: q.AckWait(), LastInChain: last,
		})
	}
	return offers
}
