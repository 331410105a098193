package dispatcher

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) apiHosts(ctx context.Context, r queue.HostsRequest) (answer queue.HostsAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	var found []queue.HostInfo
	if err := d.answer(ctx, func(now time.Time) { found = d.brain.listHosts(r.After, p.rows+1, now) }); err != nil {
		return answer, err
	}
	if answer.Hosts, err = takeFirst(p, found); len(answer.Hosts) < len(found) && err == nil {
		answer.Next = answer.Hosts[len(answer.Hosts)-1].Host
	}
	return answer, err
}

// listHosts gives the first hosts behind one, by name.
func (b *brain) listHosts(after string, most int, now time.Time) []queue.HostInfo {
	names := make([]string, 0, len(b.hosts))
	for name := range b.hosts {
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = names[:min(len(names), most)]
	blocks, strikes := countPairs(b.blocked), countPairs(b.struck)
	infos := make([]queue.HostInfo, 0, len(names))
	for _, name := range names {
		info := queue.HostInfo{
			HostState: b.hosts[name].state, Capability: b.capabilities[name].Len(), Blocks: blocks[name], Strikes: strikes[name],
			Tenants: b.grants[name].Tenants,
		}
		info.Slots, info.Prefetch = b.grants.capped(&info.HostState)
		if r := b.promises.rest(name, now); r != nil {
			info.Resting = &queue.Rest{Until: r.until.UTC(), Why: r.text()}
		}
		infos = append(infos, info)
	}
	return infos
}

// countPairs counts the pairs of each host.
func countPairs(pairs map[pair]bool) map[string]int {
	n := map[string]int{}
	for p := range pairs {
		n[p.host]++
	}
	return n
}

func (d *Dispatcher) apiBlocks(ctx context.Context, r queue.BlocksRequest) (answer queue.BlocksAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	host, hash, _ := strings.Cut(r.After, ".")
	after := pair{host, workflow.Hash(hash)}
	var which []pair
	if err := d.answer(ctx, func(time.Time) { which = d.brain.blocksBehind(after, pairs{r.Host, r.Hash}) }); err != nil {
		return answer, err
	}
	slices.SortFunc(which, pair.compare)
	which = which[:min(len(which), p.rows+1)]
	var found []queue.Block
	if err := d.answer(ctx, func(time.Time) { found = d.brain.blocksOf(which) }); err != nil {
		return answer, err
	}
	if answer.Blocks, err = takeFirst(p, found); len(answer.Blocks) < len(found) && err == nil {
		last := &answer.Blocks[len(answer.Blocks)-1]
		answer.Next = string(last.Host) + "." + string(last.Hash)
	}
	return answer, err
}

func (p pair) compare(q pair) int {
	if c := strings.Compare(p.host, q.host); c != 0 {
		return c
	}
	return strings.Compare(string(p.hash), string(q.hash))
}

// blocksBehind gives the pairs with a block that come after one.
func (b *brain) blocksBehind(after pair, which pairs) []pair {
	var found []pair
	for p := range b.blocked {
		if which.fit(p.host, p.hash) && p.compare(after) > 0 {
			found = append(found, p)
		}
	}
	return found
}

func (b *brain) blocksOf(which []pair) []queue.Block {
	blocks := make([]queue.Block, 0, len(which))
	for _, p := range which {
		if block, stands := b.fleet.Blocked(route.HostID(p.host), p.hash); stands {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

func (d *Dispatcher) apiQueue(ctx context.Context, r jetstream.QueueRequest) (jetstream.QueueAnswer, error) {
	return d.lanes(ctx, "", r)
}

// lanes lists those of a tenant, each with the place that its next job would have, or without one of all.
func (d *Dispatcher) lanes(ctx context.Context, tenant job.Tenant, r jetstream.QueueRequest) (answer jetstream.QueueAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	var all []jetstream.LaneStat
	if err := d.answer(ctx, func(now time.Time) { all = d.brain.lanesOf(route.Tenant(tenant), now) }); err != nil {
		return answer, err
	}
	all = all[min(max(r.After, 0), len(all)):]
	if answer.Lanes, err = takeFirst(p, all); len(answer.Lanes) < len(all) && err == nil {
		answer.Next = max(r.After, 0) + len(answer.Lanes)
	}
	return answer, err
}

func (b *brain) lanesOf(tenant route.Tenant, now time.Time) []jetstream.LaneStat {
	all := b.waiting.Lanes(b.fleet, now)
	if tenant == "" {
		return all
	}
	own := slices.DeleteFunc(all, func(l jetstream.LaneStat) bool { return l.Tenant != tenant })
	for i := range own {
		own[i].Place = b.waiting.PlaceOf(b.fleet, tenant, own[i].Priority, now)
	}
	return own
}
