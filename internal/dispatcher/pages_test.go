package dispatcher_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The memory's answers have room for 8 KiB of rows.
func TestListsArePages(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		const n = 60
		for i := range n {
			host := fmt.Sprintf("gpu-%02d", i)
			s.beat(queue.HostState{Host: host, Instance: "i", Serial: 1, State: queue.Online, Slots: 1, Time: s.Now(), URL: strings.Repeat("u", 300)})
			s.block(host, hashOf(t, i), []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z","message":"`+strings.Repeat("m", 300)+`"}`), time.Hour, -1)
			s.set(names.BlocksBucket, host+".junk", []byte("junk"), -1)
			s.set(names.StrikesBucket, host+"."+string(hashOf(t, i)), []byte(`{"tenants":{"acme":1}}`), -1)
			s.set(names.StrikesBucket, host+"."+string(hashOf(t, n+i)), []byte(`{"tenants":{"acme":1},"level":`+strconv.Itoa(i%2)+`}`), -1)
			s.set(names.TenantsBucket, host, []byte(`{"weight":2,"max_running":7}`), -1)
			s.set(names.AffinityBucket, string(hashOf(t, i)), []byte(`{"prefer":["`+strings.Repeat("p", 60)+`"]}`), -1)
			s.submitTo(host, 5, "job")
		}
		s.pass(time.Second)
		count := map[string]map[string]bool{}
		note := func(what, key string) {
			if count[what] == nil {
				count[what] = map[string]bool{}
			}
			count[what][key] = true
		}
		pages := map[string]int{}
		for r := (queue.HostsRequest{}); ; {
			a := operator[queue.HostsAnswer](s, "hosts", r)
			pages["hosts"]++
			for i := range a.Hosts {
				note("hosts", a.Hosts[i].Host)
				s.want("blocks of "+a.Hosts[i].Host, a.Hosts[i].Blocks, 1)
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		for r := (queue.BlocksRequest{Limit: 7}); ; {
			a := operator[queue.BlocksAnswer](s, "blocks", r)
			pages["blocks"]++
			for i := range a.Blocks {
				note("blocks", string(a.Blocks[i].Host)+"."+string(a.Blocks[i].Hash))
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		for r := (queue.BlocksRequest{Limit: 25, Struck: true}); ; {
			a := operator[queue.BlocksAnswer](s, "blocks", r)
			pages["struck"]++
			for i, p := range a.Struck {
				note("struck", p.Host)
				s.want("probation of "+p.Host, p.Probation, (25*(pages["struck"]-1)+i)%2 == 1)
				s.want("failures of "+p.Host, p.Failures, 1)
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		for r := (queue.TenantsRequest{Limit: 25}); ; {
			a := operator[queue.TenantsAnswer](s, "tenants", r)
			pages["tenants"]++
			for tenant, settings := range a.Tenants {
				note("tenants", string(tenant))
				s.want("weight of "+string(tenant), settings.Weight, 2)
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		for r := (queue.AffinityRequest{}); ; {
			a := operator[queue.AffinityAnswer](s, "affinity", r)
			pages["affinity"]++
			for hash := range a.Affinity {
				note("affinity", string(hash))
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		for r := (jetstream.QueueRequest{Limit: 50}); ; {
			a := operator[jetstream.QueueAnswer](s, "queue", r)
			pages["queue"]++
			for i := range a.Lanes {
				note("queue", string(a.Lanes[i].Tenant))
			}
			if r.After = a.Next; a.Next == 0 {
				break
			}
		}
		for what, least := range map[string]int{"hosts": 3, "blocks": 9, "struck": 3, "tenants": 3, "affinity": 2, "queue": 2} {
			s.want("rows of "+what, len(count[what]), n)
			if pages[what] < least {
				t.Errorf("%s came in %d pages, want at least %d", what, pages[what], least)
			}
		}
	})
}

func TestReasonsLettersAndChainsArePagesToo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for i := range 30 {
			s.beat(queue.HostState{Host: fmt.Sprintf("gpu-%02d", i), Instance: "i", Serial: 1, State: queue.Unhealthy, Reason: strings.Repeat("r", 500), Slots: 1, Time: s.Now()})
			s.bury("acme", job.ID(fmt.Sprintf("dead-%02d", i)))
		}
		s.dispatcher(dispatcher.Config{})
		s.submit("one")
		s.pass(time.Second)
		var hosts []string
		pages := 0
		for r := (jetstream.WhyRequest{Tenant: "acme", Job: "one"}); ; pages++ { // an operator gets the texts that hosts report
			a := operator[jetstream.WhyAnswer](s, "why", r)
			for i := range a.Hosts {
				hosts = append(hosts, string(a.Hosts[i].Host))
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		if len(hosts) != 30 || !slices.IsSorted(hosts) || pages < 1 {
			t.Errorf("why tells of %q in %d more pages", hosts, pages)
		}
		var dead []string
		pages = 0
		for r := (jetstream.DeadRequest{}); ; pages++ {
			a := answered[jetstream.DeadAnswer](s, "acme", "dead", r)
			for i := range a.Dead {
				dead = append(dead, string(a.Dead[i].Job))
			}
			if r.After = a.Next; a.Next == 0 {
				break
			}
		}
		if len(slices.Compact(dead)) != 30 || pages < 3 {
			t.Errorf("dead lists %q in %d more pages", dead, pages)
		}
		for range 20 {
			s.goOn("one", job.Waiting, func(e *job.Event) { e.Message = strings.Repeat("m", 1000) })
		}
		status := answered[jetstream.JobStatus](s, "acme", "status", jetstream.StatusRequest{Job: "one"})
		if n := len(status.Events); n == 0 || n > 8 || n+status.Earlier != 22 || status.Events[n-1].Sequence == 0 {
			t.Errorf("status has %d events and leaves out %d", n, status.Earlier)
		}
	})
}

// A watch that begins anew reports everything again, and what it does not report is gone.
