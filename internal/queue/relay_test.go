package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	graphs "github.com/comfyherd/comfyherd/internal/workflow" // workflow is the name of the example's
)

// busyHosts are full states as agents send them: one slot, two jobs, eight recent workflows of a thousand, two labels.
func busyHosts(n int) []queue.HostState {
	r := rand.New(rand.NewPCG(1, 2))
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[r.IntN(16)]
		}
		return string(b)
	}
	hashes := make([]graphs.Hash, 1000)
	for i := range hashes {
		hashes[i] = graphs.Hash(hex(64))
	}
	pick := func() graphs.Hash { return hashes[int(r.ExpFloat64()*20)%len(hashes)] }
	states := make([]queue.HostState, n)
	for i := range states {
		at := time.Date(2026, 12, 1, 12, 0, 0, r.IntN(1e9), time.UTC)
		s := queue.HostState{
			Host: fmt.Sprintf("gpu-%05d", i), Instance: hex(32), Serial: uint64(r.IntN(1e6)), State: queue.Online, Slots: 1, Prefetch: 1,
			Labels: []string{"gpu=4090", "zone=eu-1"}, Memory: 24 << 30, Version: "0.3.76", Agent: "1.4.0",
			Device: "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync", URL: fmt.Sprintf("http://10.0.%d.%d:8188", i/250, i%250), Time: at,
		}
		for range 2 {
			tenant := job.Tenant(fmt.Sprintf("tenant-%d", r.IntN(100)))
			s.Running = append(s.Running, queue.RunningJob{Tenant: tenant, Job: job.ID("j-" + hex(32)), Priority: 5, Hash: pick(), Attempt: 1, Since: at})
		}
		for range 8 {
			s.Recent = append(s.Recent, pick())
		}
		states[i] = s
	}
	return states
}

// ended is a state at the end of a job.
func ended(s queue.HostState) queue.HostState {
	s = s.Abridged()
	r := s.Running[0]
	s.Ended = &queue.EndedJob{Tenant: r.Tenant, Job: r.Job, Priority: 5, Hash: r.Hash, RanFor: job.Duration(20123456789), Success: true}
	return s
}

func size(bodies [][]byte) (n int) {
	for _, b := range bodies {
		n += len(b)
	}
	return n
}

// TestSizeOfRelays prints the sizes of docs/architecture.md.
func TestSizeOfRelays(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5, 13, 50, 200} {
		full := queue.Relay{From: "d", States: busyHosts(n)}
		brief := queue.Relay{From: "d"}
		plain, plainBrief := 0, 0
		for _, s := range full.States {
			b := ended(s)
			brief.States = append(brief.States, b)
			plain, plainBrief = plain+len(s.AppendJSON(nil)), plainBrief+len(b.AppendJSON(nil))
		}
		whole, changes := size(queue.EncodeRelay(&full))/n, size(queue.EncodeRelay(&brief))/n
		t.Logf("%d states: full %d B, in a relay %d B; with the end of a run %d B, in a relay %d B", n, plain/n, whole, plainBrief/n, changes)
		if n >= 13 && (whole > 350 || changes > 250) {
			t.Errorf("of %d states each takes %d bytes in full and %d otherwise", n, whole, changes)
		}
	}
}

func TestARelayComesBackAsItWasSent(t *testing.T) {
	t.Parallel()
	sent := queue.Relay{From: "d", Gone: []string{"x", "y"}, States: busyHosts(300)}
	sent.States[7] = ended(sent.States[7])
	sent.Tickets = ticketNews(100)
	bodies := queue.EncodeRelay(&sent)
	if len(bodies) != 2 { // 300 states of 1.3 kB and 100 changes of tickets, in messages of 256 KiB before they are compressed
		t.Fatalf("%d messages, want 2", len(bodies))
	}
	got := queue.Relay{From: "d"}
	for _, body := range bodies {
		part, err := queue.DecodeRelay("d", body)
		if err != nil {
			t.Fatal(err)
		}
		got.Gone, got.States, got.Tickets = append(got.Gone, part.Gone...), append(got.States, part.States...), append(got.Tickets, part.Tickets...)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("sent (-) and received (+):\n%s", diff)
	}
}

// ticketNews are as many changes of tickets: each second one is the end of the one before.
func ticketNews(n int) []queue.Change[queue.Ticket] {
	states := busyHosts(n)
	list := make([]queue.Change[queue.Ticket], n)
	for i := range list {
		r := states[i/2].Running[0]
		t := queue.Ticket{
			Priority: 5, Tenant: r.Tenant, Hash: r.Hash, Sequence: uint64(1e6 + i/2), Revision: uint64(2e6 + i), Job: r.Job, Attempt: 1, Size: 1 << 20, Received: r.Since,
			Lease: queue.Lease(fmt.Sprintf("$JS.ACK.COMFY_JOBS.dispatch_5.1.%d.%d.%d.0", 1e6+i/2, i, r.Since.UnixNano())),
		}
		list[i] = queue.Change[queue.Ticket]{Phase: queue.Gone, Key: t.Key(), Revision: t.Revision, Time: r.Since}
		if i%2 == 0 {
			list[i].Phase, list[i].Value = queue.Put, t
		}
	}
	return list
}

// TestSizeOfTicketsInRelays prints the sizes of docs/architecture.md.
func TestSizeOfTicketsInRelays(t *testing.T) {
	t.Parallel()
	states := busyHosts(9)
	without := size(queue.EncodeRelay(&queue.Relay{From: "d", States: states}))
	for _, n := range []int{2, 6, 20, 200} {
		each := (size(queue.EncodeRelay(&queue.Relay{From: "d", States: states, Tickets: ticketNews(n)})) - without) / (n / 2)
		t.Logf("%d changes of tickets beside 9 states: a ticket and its end take %d bytes", n, each)
		if n >= 6 && each > 400 {
			t.Errorf("a ticket and its end take %d bytes in a relay with %d changes", each, n)
		}
	}
}

// A dispatcher that does not know of tickets in relays ignores them.
func TestATicketInARelayIsNoStateOfAHost(t *testing.T) {
	t.Parallel()
	r, err := queue.DecodeRelay("d", queue.EncodeRelay(&queue.Relay{From: "d", Tickets: ticketNews(2)})[0])
	if err != nil || len(r.States) != 0 || len(r.Tickets) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	bad := ticketNews(1)
	bad[0].Value.Attempt = -1
	if r, err := queue.DecodeRelay("d", queue.EncodeRelay(&queue.Relay{From: "d", Tickets: bad})[0]); err != nil || len(r.Tickets) != 0 {
		t.Errorf("a ticket that is not valid: %+v, %v", r, err)
	}
}

func TestARelayThatIsNotValidIsRefused(t *testing.T) {
	t.Parallel()
	good := queue.EncodeRelay(&queue.Relay{From: "d", States: busyHosts(1)})[0]
	for name, c := range map[string]struct {
		from string
		body []byte
	}{
		"OfAnotherSender":  {"e", good},
		"NotCompressed":    {"d", []byte(`{"from":"d"}`)},
		"Cut":              {"d", good[:len(good)/2]},
		"Empty":            {"d", queue.Deflated(nil)},
		"NoJSON":           {"d", queue.Deflated([]byte("{\n"))},
		"FarTooLarge":      {"d", queue.Deflated(append([]byte(`{"from":"d"}`+"\n"), make([]byte, 5<<20)...))},
		"NothingDecodable": {"d", nil},
	} {
		if r, err := queue.DecodeRelay(c.from, c.body); err == nil {
			t.Errorf("%s: decoded as %+v", name, r)
		}
	}
	odd := busyHosts(2)
	odd[0].Slots = -1
	r, err := queue.DecodeRelay("d", queue.EncodeRelay(&queue.Relay{From: "d", States: odd})[0])
	if err != nil || len(r.States) != 1 || r.States[0].Host != odd[1].Host {
		t.Errorf("beside a state that is not valid: %d states, %v", len(r.States), err)
	}
}

func TestChosenHostsAndRelaysAreFollowed(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	news, relays, started := make(chan string, 100), make(chan queue.Relay, 100), make(chan string, 100)
	chosen := make(chan []string)
	go func() { _ = q.FollowChosen(ctx, chosen, func(s queue.HostState) { news <- s.Host }) }()
	go func() { _ = q.FollowRelays(ctx, func(r queue.Relay) { relays <- r }) }()
	go func() { _ = q.FollowHostNames(ctx, func(host string) { started <- host }) }()
	states := busyHosts(3)
	a, b, c := states[0].Host, states[1].Host, states[2].Host
	heard := func() (hosts []string) { // until the last host's states come, which is always chosen
		for {
			for i := range states {
				if err := q.Broadcast(&states[i]); err != nil {
					t.Fatal(err)
				}
			}
			for host := range news {
				if host == c {
					break
				}
				hosts = append(hosts, host)
			}
			if len(hosts) > 0 {
				slices.Sort(hosts)
				return slices.Compact(hosts)
			}
		}
	}
	for _, with := range []string{a, b} {
		chosen <- []string{with, c}
		chosen <- []string{with, c} // taken in when the first one is carried out
		for len(news) > 0 {
			<-news
		}
		if got := heard(); !slices.Equal(got, []string{with}) {
			t.Errorf("with %s and %s chosen, %s came", with, c, got)
		}
	}
	for len(relays) == 0 {
		if err := q.Relay(&queue.Relay{From: "d", Gone: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
		if err := q.AnnounceHost(ctx, a, queue.HostUnhealthy, ""); err != nil { // a round trip
			t.Fatal(err)
		}
	}
	if r := <-relays; r.From != "d" || !slices.Equal(r.Gone, []string{"x"}) {
		t.Errorf("relayed %+v", r)
	}
	if host := <-started; host != a {
		t.Errorf("%s has started, want %s", host, a)
	}
	if err := q.Beat(ctx, &states[1]); err != nil {
		t.Fatal(err)
	}
	if hosts, err := q.HostNames(ctx); err != nil || !slices.Equal(hosts, []string{b}) {
		t.Errorf("the hosts are %s, %v", hosts, err)
	}
	if got, err := q.Presence(ctx, b); err != nil || got.Phase != queue.Put || got.Value.Serial != states[1].Serial || got.Time.IsZero() {
		t.Errorf("the presence is %+v, %v", got, err)
	}
	if got, err := q.Presence(ctx, c); err != nil || got.Phase != queue.Gone {
		t.Errorf("a presence that does not stand is %+v, %v", got, err)
	}
}
