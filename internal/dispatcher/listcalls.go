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

const (
	hostsMost, blocksMost = 64, 64 // hosts and blocks that the loop describes for a call at a time
	strikesMost           = 64     // pairs whose strikes are read for a call that names neither a host nor a workflow
)

func (d *Dispatcher) apiHosts(ctx context.Context, r queue.HostsRequest) (answer queue.HostsAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	if r.Host != "" {
		return d.oneHost(ctx, &r)
	}
	var found []queue.HostInfo
	for after, most := r.After, p.rows+1; len(found) < most; after = found[len(found)-1].Host {
		var some []queue.HostInfo
		n := min(most-len(found), hostsMost)
		if err := d.answer(ctx, func(now time.Time) { some = d.loop.hostInfos(after, n, now) }); err != nil {
			return answer, err
		}
		if found = append(found, some...); len(some) < n {
			break
		}
	}
	if r.Offline {
		if found, err = d.withOffline(ctx, found, r.After, p.rows+1); err != nil {
			return answer, err
		}
	}
	if r.Trend {
		d.addBusy(found)
	}
	if answer.Hosts, err = takeFirst(p, found); len(answer.Hosts) < len(found) && err == nil {
		answer.Next = answer.Hosts[len(answer.Hosts)-1].Host
	}
	return answer, err
}

// oneHost describes one host: nothing when it is neither present nor among those that went offline.
func (d *Dispatcher) oneHost(ctx context.Context, r *queue.HostsRequest) (answer queue.HostsAnswer, err error) {
	answer.Hosts = []queue.HostInfo{}
	if err := d.answer(ctx, func(now time.Time) {
		if d.loop.hosts.state(r.Host) != nil {
			answer.Hosts = append(answer.Hosts, d.loop.hostInfo(r.Host, d.loop.blocks.haltsPerHost(), now))
		}
	}); err != nil {
		return answer, err
	}
	if err := d.history.caughtUp(ctx); err != nil {
		return answer, err
	}
	if since, gone := d.history.offlineSince(d.clock())[r.Host]; r.Offline && gone && len(answer.Hosts) == 0 {
		answer.Hosts = append(answer.Hosts, queue.HostInfo{HostState: queue.HostState{Host: r.Host, State: queue.Offline, Time: since.UTC()}})
	}
	if r.Trend {
		d.addBusy(answer.Hosts)
	}
	for i := range answer.Hosts {
		if r.Attempts {
			answer.Hosts[i].Attempts = d.history.attempts(r.Host)
		}
	}
	return answer, nil
}

// attempts are the last ones of a host.
func (h *jobHistory) attempts(host string) []queue.HostAttempt {
	h.mu.RLock()
	defer h.mu.RUnlock()
	found := h.fold.Attempts(host)
	list := make([]queue.HostAttempt, len(found))
	for i := range found {
		a := &found[i]
		list[i] = queue.HostAttempt{
			Tenant: a.Tenant, Job: a.Job, Hash: a.Hash, Attempt: a.Attempt, State: a.End, Kind: a.Kind, Begun: a.Begun.UTC(), RanFor: job.Duration(a.Ended.Sub(a.Begun)),
		}
	}
	return list
}

// addBusy adds how busy hosts were in the last hour, by the events that are read so far.
func (d *Dispatcher) addBusy(hosts []queue.HostInfo) {
	now := d.clock()
	d.history.mu.RLock()
	defer d.history.mu.RUnlock()
	for i := range hosts {
		h := &hosts[i]
		since := make([]time.Time, len(h.Running))
		for k := range h.Running {
			since[k] = h.Running[k].Since
		}
		for _, ran := range d.history.fold.Busy(h.Host, since, now) {
			h.Busy = append(h.Busy, min(100, int(100*ran/(job.BusyStep*time.Duration(max(h.Slots, 1))))))
		}
	}
}

// hostInfos describes the first hosts after one, by name.
func (l *loop) hostInfos(after string, most int, now time.Time) []queue.HostInfo {
	names, halts := l.hosts.hostsAfter(after, most), l.blocks.haltsPerHost()
	infos := make([]queue.HostInfo, 0, len(names))
	for _, name := range names {
		infos = append(infos, l.hostInfo(name, halts, now))
	}
	return infos
}

func (l *loop) hostInfo(name string, halts map[string]int, now time.Time) queue.HostInfo {
	id := route.HostID(name)
	blocks, strikes := l.fleet.Counts(id)
	info := queue.HostInfo{
		HostState: *l.hosts.state(name), Capability: l.fleet.Capability(id).Len(), Blocks: blocks - halts[name], Strikes: strikes,
		Tenants: l.grants.byHost[name].Tenants,
	}
	info.Slots, info.Prefetch = l.grants.capped(&info.HostState)
	if r := l.rests.of(name, now); r != nil {
		info.Resting = &queue.Rest{Until: r.until.UTC(), Why: r.text()}
	}
	return info
}

func (d *Dispatcher) apiBlocks(ctx context.Context, r queue.BlocksRequest) (answer queue.BlocksAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	host, hash, _ := strings.Cut(r.After, ".")
	after := pair{host, workflow.Hash(hash)}
	if r.Struck {
		return d.struckPairs(ctx, p, after, &r)
	}
	var which []pair
	if err := d.answerInSlices(ctx, func(pause func() bool) {
		which = d.loop.blocks.blockedAfter(after, pairs{r.Host, r.Hash}, p.rows+1, pause)
	}); err != nil {
		return answer, err
	}
	slices.SortFunc(which, pair.compare)
	found := make([]queue.Block, 0, len(which))
	for some := range slices.Chunk(which, blocksMost) {
		if err := d.answer(ctx, func(time.Time) { found = append(found, d.loop.blocks.of(some)...) }); err != nil {
			return answer, err
		}
	}
	if answer.Blocks, err = takeFirst(p, found); len(answer.Blocks) < len(found) && err == nil {
		last := &answer.Blocks[len(answer.Blocks)-1]
		answer.Next = string(last.Host) + "." + string(last.Hash)
	}
	return answer, err
}

// struckPairs lists the pairs that have strikes and no block.
func (d *Dispatcher) struckPairs(ctx context.Context, p *page, after pair, r *queue.BlocksRequest) (answer queue.BlocksAnswer, err error) {
	answer.Blocks = []queue.Block{}
	var found []pair
	if err := d.answerInSlices(ctx, func(pause func() bool) {
		found = d.loop.blocks.struckAfter(after, pairs{r.Host, r.Hash}, p.rows+1, pause)
	}); err != nil {
		return answer, err
	}
	slices.SortFunc(found, pair.compare)
	rows := make([]queue.StruckPair, len(found))
	for i, one := range found {
		rows[i] = queue.StruckPair{Host: one.host, Hash: one.hash}
	}
	for some := range slices.Chunk(rows, blocksMost) {
		if err := d.answer(ctx, func(time.Time) {
			for i := range some {
				host := route.HostID(some[i].Host)
				some[i].Probation = d.loop.fleet.OnProbation(host, some[i].Hash)
			}
		}); err != nil {
			return answer, err
		}
	}
	if r.Host != "" || r.Hash.Valid() || len(rows) <= strikesMost {
		if err := d.addStrikes(ctx, rows); err != nil {
			return answer, err
		}
	}
	if answer.Struck, err = takeFirst(p, rows); len(answer.Struck) < len(rows) && err == nil {
		last := &answer.Struck[len(answer.Struck)-1]
		answer.Next = last.Host + "." + string(last.Hash)
	}
	return answer, err
}

// addStrikes reads what the bucket has about each pair: the loop knows only which pairs are in it, since there may be very many.
func (d *Dispatcher) addStrikes(ctx context.Context, rows []queue.StruckPair) error {
	return atOnce(ctx, len(rows), func(ctx context.Context, i int) error {
		row := &rows[i]
		strikes, _, err := d.strikesOf(ctx, row.Host, row.Hash)
		row.Failures, row.Level, row.Last = strikes.Failures(), strikes.Level, strikes.Last
		return err
	})
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
	if err := d.answer(ctx, func(now time.Time) { all = d.loop.lanesOf(route.Tenant(tenant), now) }); err != nil {
		return answer, err
	}
	answer.Most = d.q.LaneCap()
	all = all[min(max(r.After, 0), len(all)):]
	if answer.Lanes, err = takeFirst(p, all); len(answer.Lanes) < len(all) && err == nil {
		answer.Next = max(r.After, 0) + len(answer.Lanes)
	}
	return answer, err
}

func (l *loop) lanesOf(tenant route.Tenant, now time.Time) []jetstream.LaneStat {
	all := l.room.Lanes(l.fleet, now)
	if tenant == "" {
		return all
	}
	own := slices.DeleteFunc(all, func(s jetstream.LaneStat) bool { return s.Tenant != tenant })
	for i := range own {
		own[i].Place = l.room.PlaceOf(l.fleet, tenant, own[i].Priority, now)
	}
	return own
}
