package natsserver_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

const pause = 50 * time.Millisecond

func TestClusterGoesOnWithoutOneServer(t *testing.T) {
	t.Parallel()
	c, err := natsserver.StartCluster(3, natsserver.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	nc := connect(t, c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(pause))
	addStream(t, nc, "S", `{"name":"S","subjects":["s.>"],"storage":"file","num_replicas":3,"allow_direct":true}`)
	publish(t, nc, "s.a", "before")

	leader := c.StreamLeader("S")
	if leader < 0 {
		t.Fatal("the stream has no leader")
	}
	if err := c.Stop(leader); err != nil {
		t.Fatal(err)
	}
	publish(t, nc, "s.a", "without one")
	if err := c.Start(leader); err != nil {
		t.Fatal(err)
	}

	// With another server gone, the returned one is needed for a majority.
	if err := c.Stop((leader + 1) % 3); err != nil {
		t.Fatal(err)
	}
	publish(t, nc, "s.b", "with the returned one")
	if c.Leader() == (leader+1)%3 {
		t.Fatal("a stopped server leads")
	}
}
