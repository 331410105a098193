package integration_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/jetstream"
)

// cutter dials connections that it can cut.
type cutter struct {
	mu   sync.Mutex // guards last
	last net.Conn
}

func (c *cutter) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(context.Background(), network, address)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = conn
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.last.Close() // it may have gone by itself
}

// follows has a tenant, whose job one has completed, list and follow its jobs with its credentials alone, over a cut
// connection, while its job two runs.
func (f *closed) follows(tenant job.Tenant) {
	f.t.Helper()
	line, refused := &cutter{}, make(chan error, 100)
	nc, err := daemon.Connect(f.context(), daemon.NATS{
		URL: f.url, Creds: f.creds(f.folder.Tenant(string(tenant), natsserver.TenantSettings{})),
		Options: []nats.Option{
			nats.SetCustomDialer(line), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.Timeout(10 * time.Second),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				if errors.Is(err, nats.ErrPermissionViolation) {
					refused <- err
				}
			}),
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	defer nc.Close()
	client := jetstream.NewClient(nc, tenant)
	next, stop := iter.Pull2(client.Follow(f.context(), 0))
	defer stop()
	var told []uint64
	until := func(suffix string) {
		f.t.Helper()
		for {
			n, err, more := next()
			if err != nil || !more || !strings.HasPrefix(n.Subject, "comfy.events.jobs."+string(tenant)+".") {
				f.t.Fatalf("while waiting for %s: %s, %v", suffix, n.Subject, err)
			}
			if told = append(told, n.Sequence); strings.HasSuffix(n.Subject, suffix) {
				return
			}
		}
	}
	until(".one.completed")
	progress := make(chan job.ID, 100)
	listening, done := context.WithCancel(f.context())
	defer done()
	go func() {
		_ = client.FollowProgress(listening, func(id job.ID, _ jetstream.Progress) {
			select {
			case progress <- id:
			default:
			}
		})
	}()
	line.cut()
	f.eventually("it is connected again", func() bool { return nc.IsConnected() && nc.Stats().Reconnects > 0 })
	if _, err := client.Submit(f.context(), 5, job.Spec{ID: "two", Workflow: paint("a.safetensors", "y", 2)}); err != nil {
		f.t.Fatal(err)
	}
	until(".two.started")
	line.cut()
	until(".two.completed")
	f.lists(client, told)
	for n := 0; len(progress) == 0; n++ { // what is told while the line is cut is lost
		id := job.ID(fmt.Sprint("more-", n))
		if _, err := client.Submit(f.context(), 5, job.Spec{ID: id, Workflow: paint("a.safetensors", "z", 3+n)}); err != nil {
			f.t.Fatal(err)
		}
		until("." + string(id) + ".completed")
	}
	if id := <-progress; id != "two" && !strings.HasPrefix(string(id), "more-") {
		f.t.Errorf("progress of %s", id)
	}
	if len(refused) > 0 {
		f.t.Errorf("NATS has told the tenant %v", <-refused)
	}
}

// lists compares what was told live with the pages of events and the list of jobs.
func (f *closed) lists(client *jetstream.Client, told []uint64) {
	f.t.Helper()
	var stored []uint64
	for after, end := uint64(0), false; !end; {
		page, err := client.Events(f.context(), jetstream.EventsRequest{After: after, Limit: 3})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, e := range page.Events {
			stored = append(stored, e.Sequence)
		}
		after, end = page.Next, page.End
	}
	if slices.Sort(told); !slices.Equal(told, stored) {
		f.t.Errorf("told were %v, and stored are %v", told, stored)
	}
	list, err := client.Jobs(f.context(), jetstream.JobsRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	var rows []string
	for _, r := range list.Jobs {
		if rows = append(rows, fmt.Sprintf("%s/%s %s %d", r.Tenant, r.Job, r.State, r.Attempt)); !r.Hash.Valid() || !strings.HasPrefix(r.Host, "gpu-") {
			f.t.Errorf("a row has hash %q and host %q", r.Hash, r.Host)
		}
	}
	tenant := string(client.Tenant())
	if want := []string{tenant + "/two completed 1", tenant + "/one completed 1"}; !slices.Equal(rows, want) || list.Counts[job.Completed] != 2 {
		f.t.Errorf("its jobs are %q, counts %v; want %q", rows, list.Counts, want)
	}
	ends := 0
	for e, err := range client.FollowMany(f.context(), []job.ID{"one", "two"}) {
		if err != nil {
			f.t.Fatal(err)
		}
		if e.EventKind == job.Completed {
			ends++
		}
	}
	if ends != 2 {
		f.t.Errorf("%d of 2 jobs are told as completed", ends)
	}
}
