package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	busyHost = "bench-busy" // takes a job and never ends it
	heldMost = 64           // at most so many of the waiting jobs are on the busy host or in hand
	nowhere  = "http://127.0.0.1:1"
	forever  = 24 * time.Hour // beyond the end of any measurement
)

// burden writes the blocks in force, and publishes the jobs that wait, during the whole measurement.
func (s *stage) burden(ctx context.Context, q *queue.Queue, js natsjs.JetStream) error {
	if err := s.block(ctx, q, js.Conn()); err != nil {
		return fmt.Errorf("write blocks: %w", err)
	}
	if err := s.crowd(ctx, js); err != nil {
		return fmt.Errorf("fill the waiting room: %w", err)
	}
	for i := range s.cfg.Dispatchers {
		if err := s.awaitKnown(ctx, i); err != nil {
			return err
		}
	}
	s.before = s.counts()
	return nil
}

// block writes the blocks, spread over the hosts, and waits until each has been announced.
func (s *stage) block(ctx context.Context, q *queue.Queue, nc *nats.Conn) error {
	if s.cfg.Blocks == 0 {
		return nil
	}
	var announced atomic.Int64
	sub, err := nc.Subscribe("comfy.events.blocks.*.*.blocked", func(*nats.Msg) { announced.Add(1) })
	if err != nil {
		return fmt.Errorf("follow blocks: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends soon
	defer reporting("blocks", s.cfg.Blocks, func() int { return int(announced.Load()) }, s.cfg.Progress)()
	writers, writing := errgroup.WithContext(ctx)
	writers.SetLimit(32)
	for i := range s.cfg.Blocks {
		writers.Go(func() error { return openBlock(writing, q, hostName(i%s.cfg.Hosts), i/s.cfg.Hosts) })
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	return poll(ctx, "the announcements of all blocks", func() bool { return int(announced.Load()) >= s.cfg.Blocks })
}

func openBlock(ctx context.Context, q *queue.Queue, host string, i int) error {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	b := route.Block{
		Host: route.HostID(host), Hash: workflow.Hash(hex.EncodeToString(sum[:])), Kind: failure.ExecutionError,
		Message: "blocked by the bench", Job: "b-none", Tenants: []route.Tenant{route.Everyone}, Failures: 1, Until: time.Now().Add(forever),
	}
	value, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode a block: %w", err)
	}
	_, err = q.OpenBlock(ctx, host, b.Hash, value, forever)
	return err
}

// crowd publishes jobs for a host that stays busy, and waits until they are in the waiting room.
func (s *stage) crowd(ctx context.Context, js natsjs.JetStream) error {
	if s.cfg.Waiting == 0 {
		return nil
	}
	if err := s.occupy(ctx); err != nil {
		return err
	}
	first := dispatcherName(0)
	defer reporting("waiting room", s.cfg.Waiting, func() int { return s.gauges(first)["comfyherd_mirror_tickets"] }, s.cfg.Progress)()
	for i := range s.cfg.Waiting {
		body := fmt.Appendf(nil, `{"only_hosts":[%q],"workflow":%s}`, busyHost, s.load.body(i))
		msg := &nats.Msg{Subject: "comfy.jobs." + s.load.tenant(i) + ".5", Data: body, Header: nats.Header{"Comfy-Job-Id": {"w-" + s.load.run + "-" + strconv.Itoa(i)}}}
		if err := send(ctx, js, msg); err != nil {
			return fmt.Errorf("publish job %d: %w", i, err)
		}
	}
	return s.awaitKnown(ctx, 0)
}

// occupy brings up the host that takes a job and never ends it.
func (s *stage) occupy(ctx context.Context) error {
	capability, err := s.load.capability()
	if err != nil {
		return err
	}
	busy := *s.cfg
	busy.HostTime = forever
	return s.agent(ctx, []agent.HostConfig{{Name: busyHost, URL: nowhere, Comfy: newHost(&busy, &samples{}, capability)}})
}
