//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// A dispatcher holds the news of a block while it stands still; meanwhile the block is lifted and another dispatcher
// hears of that alone. When the first goes on, both events are to be told.
func TestABlockThatIsAnnouncedLateIsToldToBeLifted(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	network := startProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	defer network.close()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	announce := func(q *queue.Queue, who string) {
		running.Go(func() {
			_ = q.AnnounceBlocks(ctx, who, func(err error) { t.Logf("%s: %v", who, err) }) // it ends with ctx
		})
	}
	nc, quick := open(ctx, t, server.URL())
	_, slow := open(ctx, t, "nats://"+network.addr())

	// Pulls are served in turn: another pair's block goes to quick, the block to slow, its end to quick.
	announce(quick, "quick")
	awaitConsumer(ctx, t, nc, func(c consumer) bool { return c.Waiting == 1 })
	announce(slow, "slow")
	awaitConsumer(ctx, t, nc, func(c consumer) bool { return c.Waiting == 2 })
	block(ctx, t, quick, "other")
	awaitConsumer(ctx, t, nc, func(c consumer) bool { return c.Delivered.Stream == 1 && c.Unacked == 0 })
	network.setFrozen(true)
	revision := block(ctx, t, quick, "gpu")
	awaitConsumer(ctx, t, nc, func(c consumer) bool { return c.Delivered.Stream == revision && c.Unacked == 1 })
	if lifted, err := quick.LiftBlock(ctx, "gpu", blockedHash, revision, queue.Cleared); !lifted || err != nil {
		t.Fatalf("lift: %v, %v", lifted, err)
	}
	awaitConsumer(ctx, t, nc, func(c consumer) bool { return c.Delivered.Stream > revision && c.Unacked == 0 })
	network.setFrozen(false)

	var told []string
	for note, err := range quick.Notes(ctx, "comfy.events.blocks.gpu.>", time.Time{}) {
		if err != nil {
			t.Fatalf("after %q: %v", told, err)
		}
		told = append(told, note.Subject[strings.LastIndexByte(note.Subject, '.')+1:])
		if len(told) == 2 {
			break
		}
	}
	if told[0] != "blocked" || told[1] != "unblocked" {
		t.Errorf("told %q, want blocked and unblocked", told)
	}
}

const blockedHash = workflow.Hash("abababababababababababababababababababababababababababababababab")

// block blocks a pair and gives its revision.
func block(ctx context.Context, t *testing.T, q *queue.Queue, host string) uint64 {
	t.Helper()
	if opened, err := q.OpenBlock(ctx, host, blockedHash, []byte(`{}`), time.Minute); !opened || err != nil {
		t.Fatalf("block: %v, %v", opened, err)
	}
	block, err := q.Block(ctx, host, blockedHash)
	if err != nil {
		t.Fatal(err)
	}
	return block.Revision
}

// startNATS starts one that ends with the test.
func startNATS(t *testing.T) *natsserver.Server {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func open(ctx context.Context, t *testing.T, url string) (*nats.Conn, *queue.Queue) {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return nc, q
}

// consumer is where the announcing consumer stands.
type consumer struct {
	Waiting   int `json:"num_waiting"`
	Pending   int `json:"num_pending"`
	Unacked   int `json:"num_ack_pending"`
	Delivered struct {
		Stream uint64 `json:"stream_seq"`
	} `json:"delivered"`
}

func awaitConsumer(ctx context.Context, t *testing.T, nc *nats.Conn, fits func(consumer) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		msg, err := nc.RequestWithContext(ctx, "$JS.API.CONSUMER.INFO.KV_COMFY_BLOCKS.announce", nil)
		if err != nil {
			t.Fatal(err)
		}
		var c consumer
		if json.Unmarshal(msg.Data, &c) == nil && fits(c) {
			return
		}
		<-tick.C
	}
}
