package dispatcher_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// missed removes a key while no watch of its bucket hears it. Then each begins anew with all that stands, as after a
// reconnection.
func (s *scene) missed(bucket, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(bucket)
	watchers := b.watchers
	b.watchers = nil
	s.change(bucket, key, nil, -1)
	b.watchers = watchers
	for _, tell := range watchers {
		tell(queue.Entry{Phase: queue.Reset})
		for _, key := range slices.Sorted(maps.Keys(b.keys)) {
			if c := b.keys[key]; c.Phase == queue.Put {
				tell(c)
			}
		}
		tell(queue.Entry{Phase: queue.Synced})
	}
}

// Each value keeps the job from the only host until it is gone.
func TestWhatWasRemovedWhileAWatchWasCutOffHoldsNoMore(t *testing.T) {
	t.Parallel()
	hash := hashOf(t, 1)
	block := route.Block{
		Host: "a", Hash: hash, Kind: failure.Timeout, Tenants: []route.Tenant{route.Everyone}, Until: time.Now().Add(1000 * time.Hour),
	}
	guilty := route.Strikes{Guilty: map[route.Tenant]string{"acme": "job w: two hosts went down"}}
	for name, c := range map[string]struct {
		bucket, key string
		value       []byte
		before      string
	}{
		"a rule":                        {names.AffinityBucket, string(hash), []byte(`{"exclude":["a"]}`), "queued waiting:excluded"},
		"a grant":                       {names.GrantsBucket, "a", []byte(`{"tenants":["bolt"]}`), "queued waiting:other_tenants"},
		"a grant that cannot be read":   {names.GrantsBucket, "a", []byte(`junk`), "queued waiting:other_tenants"},
		"a block":                       {names.BlocksBucket, pairOf("a", hash), encoded(t, &block), "queued waiting:all_blocked"},
		"what proves a workflow guilty": {names.StrikesBucket, pairOf("a", hash), encoded(t, &guilty), "queued dead:takes_hosts_down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.set(c.bucket, c.key, c.value, -1)
				s.runs("a", nil)
				s.dispatcher(dispatcher.Config{})
				s.submit("x")
				s.pass(time.Second)
				s.want("before", s.story("x"), c.before)
				s.missed(c.bucket, c.key)
				s.pass(0) // until the dispatcher has taken that in: it hears of jobs by another way
				s.submit("y")
				s.pass(2 * time.Second)
				s.want("afterwards", s.story("y"), "queued started completed")
			})
		})
	}
}

func TestSettingsAndHostsThatEndedWhileAWatchWasCutOffAreGone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxUnfinished: 1})
		s.dispatcher(dispatcher.Config{})
		for _, host := range []string{"a", "b"} {
			s.host(host, s.accepts(host))
		}
		s.can("b", "Other")
		s.pass(time.Second)
		s.submit("x")
		s.pass(time.Second)
		s.submit("y")
		s.pass(time.Second)
		s.want("the second", s.story("x")+", "+s.story("y"), "queued started, dead:over_quota")
		s.missed(names.TenantsBucket, "acme")
		s.submit("z")
		s.pass(time.Second)
		s.want("without the quota", s.story("z"), "queued")
		s.missed(names.CapabilitiesBucket, "b")
		s.pass(time.Second)
		s.want("when nothing is known of what the other host lacks", s.story("z"), "queued started")
		s.missed(names.HostsBucket, "b")
		s.pass(0)
		s.want("hosts", []bool{s.main.Knows("a"), s.main.Knows("b")}, []bool{true, false})
	})
}
