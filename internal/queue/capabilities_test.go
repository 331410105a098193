package queue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// installed is what a host with some node classes can run.
func installed(classes ...string) []byte {
	var b workflow.CapabilityBuilder
	for _, class := range classes {
		b.AddClass(class)
	}
	return must(workflow.NewCapability(&b).MarshalBinary())
}

// capabilityScene is a queue with its connection, and what a watch of capabilities has given.
type capabilityScene struct {
	t       *testing.T
	nc      *nats.Conn
	q       *queue.Queue
	changes chan queue.Change[workflow.Capability]
}

func newCapabilityScene(t *testing.T) *capabilityScene {
	t.Helper()
	nc := connect(t, startNATS(t))
	return &capabilityScene{t: t, nc: nc, q: open(t, nc, queue.Config{})}
}

func (s *capabilityScene) watch() {
	s.changes = make(chan queue.Change[workflow.Capability], 256)
	watch(s.t, s.q.WatchCapabilities, func(c queue.Change[workflow.Capability]) { s.changes <- c })
}

// told is what the watch gave up to a phase, as "host: classes" of those that are asked for.
func (s *capabilityScene) told(until queue.Phase, classes ...string) map[string]string {
	s.t.Helper()
	told := map[string]string{}
	for c := range s.changes {
		switch c.Phase {
		case queue.Put:
			var has []string
			for _, class := range classes {
				if c.Value.HasClass(class) {
					has = append(has, class)
				}
			}
			told[c.Key] = strings.Join(has, " ")
		case queue.Gone:
			told[c.Key] = "gone"
		case queue.Invalid:
			told[c.Key] = "invalid"
		}
		if c.Phase == until {
			return told
		}
	}
	return told
}

// sent is how many bytes the server has sent to this connection.
func (s *capabilityScene) sent() uint64 { return s.nc.Stats().InBytes }

func TestAWatchOfCapabilitiesReadsEachInstallationOnce(t *testing.T) {
	t.Parallel()
	s := newCapabilityScene(t)
	var classes []string
	for n := range 2000 {
		classes = append(classes, fmt.Sprint("Node", n))
	}
	const hosts = 100
	large := [][]byte{installed(append(classes, "A")...), installed(append(classes, "B")...)}
	want := map[string]string{}
	for n := range hosts {
		host := fmt.Sprint("gpu-", n)
		must(0, s.q.PutCapability(t.Context(), host, large[n%2]))
		want[host] = []string{"A", "B"}[n%2]
	}
	before := s.sent()
	s.watch()
	got := s.told(queue.Synced, "A", "B")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if bytes := s.sent() - before; bytes > 4*uint64(len(large[0])) {
		t.Errorf("%d bytes were received of %d hosts with two installations of %d bytes", bytes, hosts, len(large[0]))
	}
	t.Logf("%d bytes a host beside the values", (s.sent()-before-2*uint64(len(large[0])))/hosts)
	if stored := must(s.q.Capability(t.Context(), "gpu-1")); !cmp.Equal(stored, large[1]) {
		t.Errorf("%d bytes are stored of a host, want %d", len(stored), len(large[1]))
	}
}

func TestAWatchOfCapabilitiesTellsChangesAndEnds(t *testing.T) {
	t.Parallel()
	s := newCapabilityScene(t)
	s.watch()
	if got := s.told(queue.Synced); len(got) != 0 {
		t.Errorf("an empty bucket has %v", got)
	}
	must(0, s.q.PutCapability(t.Context(), "gpu", installed("A")))
	if diff := cmp.Diff(map[string]string{"gpu": "A"}, s.told(queue.Put, "A", "B")); diff != "" {
		t.Error(diff)
	}
	must(0, s.q.PutCapability(t.Context(), "gpu", installed("B")))
	if diff := cmp.Diff(map[string]string{"gpu": "B"}, s.told(queue.Put, "A", "B")); diff != "" {
		t.Error(diff)
	}
	kv := must(must(natsjs.New(s.nc)).KeyValue(t.Context(), names.CapabilitiesBucket))
	must(0, kv.Delete(t.Context(), "gpu"))
	if diff := cmp.Diff(map[string]string{"gpu": "gone"}, s.told(queue.Gone)); diff != "" {
		t.Error(diff)
	}
	if stored := must(s.q.Capability(t.Context(), "gpu")); stored != nil {
		t.Errorf("%d bytes are stored of a host without a key", len(stored))
	}
}

// An agent of an older version stores no digest.
func TestACapabilityWithoutADigestIsReadAsWell(t *testing.T) {
	t.Parallel()
	s := newCapabilityScene(t)
	kv := must(must(natsjs.New(s.nc)).KeyValue(t.Context(), names.CapabilitiesBucket))
	must(kv.Put(t.Context(), "old", installed("A")))
	must(kv.Put(t.Context(), "odd", []byte("junk")))
	must(0, s.q.PutCapability(t.Context(), "new", installed("A")))
	s.watch()
	if diff := cmp.Diff(map[string]string{"old": "A", "odd": "invalid", "new": "A"}, s.told(queue.Synced, "A")); diff != "" {
		t.Error(diff)
	}
	if stored := must(s.q.Capability(t.Context(), "old")); stored != nil {
		t.Error("it is not stored again, with its digest, by a newer agent")
	}
}

// A host that stores its value under the digest of another value changes nothing of what other hosts can run.
func TestADigestThatIsNotThatOfTheValueConcernsItsHostAlone(t *testing.T) {
	t.Parallel()
	s := newCapabilityScene(t)
	must(0, s.q.PutCapability(t.Context(), "honest", installed("A")))
	js := must(natsjs.New(s.nc))
	stored := must(must(js.Stream(t.Context(), names.BucketStream(names.CapabilitiesBucket))).
		GetLastMsgForSubject(t.Context(), names.KeySubject(names.CapabilitiesBucket, "honest")))
	lie := nats.NewMsg(names.KeySubject(names.CapabilitiesBucket, "liar"))
	lie.Header.Set(names.DigestHeader, stored.Header.Get(names.DigestHeader))
	lie.Data = installed("B")
	must(js.PublishMsg(t.Context(), lie))
	must(0, s.q.PutCapability(t.Context(), "honest", installed("A"))) // the wrong digest is read first
	s.watch()
	if diff := cmp.Diff(map[string]string{"liar": "B", "honest": "A"}, s.told(queue.Synced, "A", "B")); diff != "" {
		t.Error(diff)
	}
}

// A NATS that restarts sends nothing to the watchers that were open before.
func TestAWatchOfCapabilitiesGoesOnAfterARestartOfNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	url := server.URL()
	nc := connect(t, url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	s := &capabilityScene{t: t, nc: nc, q: open(t, nc, queue.Config{})}
	must(0, s.q.PutCapability(t.Context(), "gpu", installed("A")))
	s.watch()
	s.told(queue.Synced)
	must(0, server.Close())
	server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: dir}))
	s.told(queue.Reset)
	if diff := cmp.Diff(map[string]string{"gpu": "A"}, s.told(queue.Synced, "A")); diff != "" {
		t.Error(diff)
	}
	must(0, s.q.PutCapability(t.Context(), "other", installed("B")))
	if diff := cmp.Diff(map[string]string{"other": "B"}, s.told(queue.Put, "A", "B")); diff != "" {
		t.Error(diff)
	}
}
