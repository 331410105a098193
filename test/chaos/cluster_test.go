//go:build unix

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// clustered is a smaller fleet on three servers of NATS, with three copies of everything.
func clustered() shape {
	return shape{servers: 3, dispatchers: 2, agents: [][]string{{"h1", "h2"}, {"h3"}}}
}

// A cluster loses one server at a time: the next one only when all copies are whole again.
func TestChaosClusterLosesNothingWithOneServerLessAtATime(t *testing.T) {
	t.Parallel()
	total, n := duration(t, 10*time.Second, 4*time.Second), seed(t)
	t.Logf("replay with CHAOS_SEED=%d CHAOS_TIME=%s", n, total)
	f := start(t, clustered())
	s := &story{began: time.Now()}
	l := startLoad(f, n, 900*time.Millisecond)
	defer l.end()
	c := newChecker(f, l, s)
	d := &doing{f: f, story: s, check: func() { c.check(false) }}
	rng := rand.New(rand.NewPCG(n, 2))
	for time.Since(s.began) < total {
		d.loseOne(rng)
		if !f.within(testTimeout, func(context.Context) bool { return f.whole(c) }) {
			t.Fatalf("%s: the copies of the streams are not whole after %v", s.now(), testTimeout)
		}
		d.check()
	}
	d.finish(l, c)
}

// loseOne takes one server away for a while.
func (d *doing) loseOne(rng *rand.Rand) {
	a := onNATS(rng, d.f.shape, span(rng, 500*time.Millisecond, 3*time.Second))
	a.at = time.Since(d.story.began)
	d.f.t.Log(a)
	deed := d.story.begin(a)
	undo := d.f.do(a)
	timer := time.NewTimer(a.lasts)
	defer timer.Stop()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for gone := true; gone; {
		select {
		case <-tick.C:
			d.f.supervise()
			d.check()
		case <-timer.C:
			gone = false
		}
	}
	undo()
	d.f.supervise()
	d.story.undone(deed)
}

var streams = []string{
	"COMFY_JOBS", "COMFY_EVENTS", "COMFY_DEAD", "OBJ_COMFY_OUTPUTS", "KV_COMFY_WAITING", "KV_COMFY_BLOCKS", "KV_COMFY_STRIKES",
	"KV_COMFY_HOSTS", "KV_COMFY_DISPATCHERS", "KV_COMFY_CAPABILITIES", "KV_COMFY_CONDITIONS",
}

// whole reports whether every copy of what carries the jobs is current.
func (f *fleet) whole(c *checker) bool {
	f.supervise()
	for _, stream := range streams {
		var info struct {
			Cluster struct {
				Leader   string `json:"leader"`
				Replicas []struct {
					Current bool `json:"current"`
				} `json:"replicas"`
			} `json:"cluster"`
		}
		if err := c.ask("STREAM.INFO."+stream, &info); err != nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != f.shape.servers-1 {
			return false
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return false
			}
		}
	}
	return true
}

// awaitNATS waits until a stream can be made with all its copies.
func (f *fleet) awaitNATS() {
	f.t.Helper()
	f.eventually("all servers of NATS are healthy", func(context.Context) bool {
		for name, p := range f.by {
			if log, _ := os.ReadFile(p.log); f.shape.servers > 1 && name[0] == 'n' && !bytes.Contains(log, []byte(healthy)) {
				return false
			}
		}
		return true
	})
	nc := f.dial("probe")
	defer nc.Close()
	ask := fmt.Appendf(nil, `{"name":"PROBE","subjects":["probe"],"num_replicas":%d,"storage":"memory","max_age":0}`, f.shape.servers)
	f.eventually("NATS makes streams", func(context.Context) bool {
		return succeeded(nc, "$JS.API.STREAM.CREATE.PROBE", ask)
	})
	f.eventually("NATS removes streams", func(context.Context) bool {
		return succeeded(nc, "$JS.API.STREAM.DELETE.PROBE", nil)
	})
}

func succeeded(nc *nats.Conn, subject string, ask []byte) bool {
	msg, err := nc.Request(subject, ask, time.Second)
	if err != nil {
		return false
	}
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	return json.Unmarshal(msg.Data, &answer) == nil && answer.Error == nil
}

// In a cluster nobody is answered about a stream that somebody else is making at the same moment.
func TestTwoDispatchersOpenAnEmptyClusterAtOnce(t *testing.T) {
	t.Parallel()
	cluster, err := natsserver.StartCluster(3, natsserver.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	var both sync.WaitGroup
	for range 2 {
		nc, err := nats.Connect(cluster.URL(), nats.Timeout(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		both.Go(func() {
			began := time.Now()
			q, err := queue.Open(ctx, nc, queue.Config{Replicas: 3})
			if err != nil {
				t.Error(err)
				return
			}
			q.Close()
			t.Logf("open after %v", time.Since(began).Round(time.Millisecond))
		})
	}
	both.Wait()
}
