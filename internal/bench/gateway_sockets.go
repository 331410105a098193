package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// SocketsResult is what many open websockets cost, each of which receives previews.
type SocketsResult struct {
	Sockets  int     `json:"sockets"`
	Runs     int     `json:"runs"` // prompts whose previews they receive
	Rate     int     `json:"previews_per_second"`
	Bytes    int     `json:"preview_bytes"`
	Seconds  float64 `json:"seconds"`
	Expected int64   `json:"expected"`
	Received int64   `json:"received"` // a socket that reads slowly loses previews
	Latency  Spread  `json:"latency"`  // from the publish of a preview until a client has read it
	Cores    float64 `json:"gateway_cores"`
	Rest     float64 `json:"other_cores"` // of NATS, the one that sends and all clients
	Memory   uint64  `json:"gateway_memory_bytes"`
}

const (
	previewRate  = 20     // a second and run
	previewBytes = 30_000 // of a picture
	sampleEvery  = 101    // how many previews there are to each whose latency is kept
)

// watchers are the clients of open websockets.
type watchers struct {
	conns    []*websocket.Conn
	reading  sync.WaitGroup
	received atomic.Int64
	latency  samples
}

// measureSockets opens websockets and sends the previews of some runs, as agents send them.
func (b *gatewayBench) measureSockets(ctx context.Context) (*SocketsResult, error) {
	runs, err := b.waitingRuns(ctx)
	if err != nil {
		return nil, err
	}
	w := &watchers{}
	defer w.close()
	for i := range b.cfg.Sockets {
		conn, err := b.client.dial(ctx, clientOf(i%b.cfg.Runs))
		if err != nil {
			return nil, err
		}
		w.conns = append(w.conns, conn)
		w.reading.Go(func() { w.read(conn) })
		b.cfg.Progress(Progress{Stage: socketsStage, Done: i, Total: b.cfg.Sockets})
	}
	before, err := b.gateway.ask(ctx, askTraffic)
	if err != nil {
		return nil, err
	}
	began, cpu := time.Now(), cpuTime()
	sent, err := b.sendPreviews(ctx, runs)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	expected := int64(0)
	for i := range b.cfg.Sockets {
		expected += sent[i%b.cfg.Runs]
	}
	w.await(ctx, expected)
	after, err := b.gateway.ask(ctx, askTraffic)
	if err != nil {
		return nil, err
	}
	return &SocketsResult{
		Sockets: b.cfg.Sockets, Runs: b.cfg.Runs, Rate: previewRate, Bytes: previewBytes, Seconds: took.Seconds(),
		Expected: expected, Received: w.received.Load(), Latency: w.latency.spread(), Memory: after.Memory,
		Cores: (after.CPU - before.CPU).Seconds() / took.Seconds(), Rest: (cpuTime() - cpu).Seconds() / took.Seconds(),
	}, nil
}

func clientOf(run int) string { return fmt.Sprintf("watcher-%d", run) }

// waitingRuns are jobs of the clients. They never start: what a host would send of them is sent by sendPreviews.
func (b *gatewayBench) waitingRuns(ctx context.Context) ([]job.ID, error) {
	later := b.q.Now().Add(24 * time.Hour)
	var runs []job.ID
	for i := range b.cfg.Runs {
		metadata, err := gateway.Metadata(gateway.Submission{ClientID: clientOf(i)})
		if err != nil {
			return nil, fmt.Errorf("encode a client: %w", err)
		}
		id := job.ID(uuid.NewString())
		_, err = b.q.Submit(ctx, job.Lane{Tenant: gatewayTenant, Priority: job.Usual}, job.Spec{
			ID: id, Workflow: drawing(i), Live: job.LiveFrames, RunAt: &later, Metadata: metadata,
		})
		if err != nil {
			return nil, err
		}
		runs = append(runs, id)
	}
	return runs, nil
}

// sendPreviews sends the previews of all runs for the time of a stage, evenly, and gives how many of each.
func (b *gatewayBench) sendPreviews(ctx context.Context, runs []job.ID) ([]int64, error) {
	sent := make([]int64, len(runs))
	head := []byte{0, 0, 0, 1, 0, 0, 0, 1} // a JPEG without metadata
	began, total := time.Now(), int(b.cfg.Time.Seconds()*previewRate)*len(runs)
	for i := range total {
		if err := paced(ctx, began, i, float64(previewRate*len(runs))); err != nil {
			return nil, err
		}
		run := i % len(runs)
		sent[run]++
		data := make([]byte, previewBytes)
		copy(data, head)
		binary.BigEndian.PutUint64(data[len(head):], uint64(time.Now().UnixNano()))
		if err := b.q.PublishFrame(gatewayTenant, &queue.Frame{Job: runs[run], Attempt: 1, Number: uint64(sent[run]), Binary: true, Data: data}); err != nil {
			return nil, err
		}
		if i%1000 == 0 {
			b.cfg.Progress(Progress{Stage: socketsStage, Done: i, Total: total})
		}
	}
	return sent, nil
}

// read reads all that comes on a websocket, and of some previews how long they took.
func (w *watchers) read(conn *websocket.Conn) {
	var head [16]byte
	for {
		kind, message, err := conn.NextReader()
		if err != nil {
			return
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		if _, err := io.ReadFull(message, head[:]); err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return
		}
		if w.received.Add(1)%sampleEvery == 0 {
			w.latency.add(time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(head[8:])))))
		}
	}
}

// await waits until all previews have come, or none comes any more.
func (w *watchers) await(ctx context.Context, expected int64) {
	for last := int64(-1); w.received.Load() < expected && w.received.Load() > last; {
		last = w.received.Load()
		if !queue.Pause(ctx, time.Second) {
			return
		}
	}
}

func (w *watchers) close() {
	for _, conn := range w.conns {
		_ = conn.Close() // the other side may have closed it
	}
	w.reading.Wait()
}
