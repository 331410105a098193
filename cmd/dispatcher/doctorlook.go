package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Limits beyond which the doctor warns or fails a check.
const (
	slowRoundTrip = 250 * time.Millisecond
	fillingStore  = 0.8
	fullStore     = 0.95
	leastPayload  = 1 << 20 // a piece of a file and a usual job fit
)

// server looks at the connection.
func (x *examination) server(ctx context.Context, nc *nats.Conn) error {
	rtt := time.Duration(0)
	for range 5 {
		took, err := nc.RTT()
		if err != nil {
			return fmt.Errorf("measure the round trip to NATS: %w", errors.Join(err, ctx.Err()))
		}
		rtt = max(rtt, took)
	}
	found := check{checkOK, "NATS", fmt.Sprintf("%s at %s, round trip %s at most, max_payload %s",
		nc.ConnectedServerVersion(), nc.ConnectedUrlRedacted(), daemon.Span(rtt), daemon.Size(nc.MaxPayload())), ""}
	switch {
	case nc.MaxPayload() < leastPayload:
		found.State, found.Do = checkBad, "Raise max_payload of NATS to 8MB: jobs of 1 MiB do not fit."
	case rtt > slowRoundTrip:
		found.State, found.Do = checkWarn, "Look at the network between this machine and NATS."
	}
	x.add(found)
	return nil
}

// fleet looks at what the dispatchers say. there is false when none answers.
func (x *examination) fleet(ctx context.Context, q *queue.Queue) (hosts []queue.HostInfo, there bool, err error) {
	x.ok("streams", "all streams, buckets and object stores are there")
	x.clock("this machine", q.ClockOff())
	var running queue.DispatchersAnswer
	if err := q.Call(ctx, "dispatchers", &queue.DispatchersRequest{}, &running); err != nil {
		if !errors.Is(err, nats.ErrNoResponders) {
			return nil, false, err
		}
		x.add(check{checkBad, "dispatchers", "none is running, so no job starts", "Start `dispatcher run`."})
		return nil, false, nil
	}
	x.dispatchers(running.Dispatchers)
	var overview queue.OverviewAnswer
	if err := q.Call(ctx, "overview", &queue.OverviewRequest{}, &overview); err != nil {
		return nil, false, err
	}
	x.storage(overview.Storage)
	if hosts, err = listHosts(ctx, x.c, q); err != nil {
		return nil, false, err
	}
	if err := x.hosts(ctx, q, hosts); err != nil {
		return nil, false, err
	}
	for i := range overview.Needs {
		need := &overview.Needs[i]
		if need.Rule == queue.NoHosts || need.Rule == queue.HostsSick || need.Rule == queue.StoreFilling {
			continue // reported above, one by one
		}
		found := check{checkWarn, "jobs", need.Text, ""}
		if need.Command != "" {
			found.Do = "`" + need.Command + "` shows more."
		}
		x.add(found)
	}
	return hosts, true, nil
}

func (x *examination) clock(whose string, off time.Duration) {
	if words := clockWords(whose, off); words != "" {
		text, do, _ := strings.Cut(words, "; set")
		x.add(check{checkWarn, "clock", text + ".", "Set" + do})
		return
	}
	if whose == "this machine" {
		x.ok("clock", "this machine's is right to the second")
	}
}

func (x *examination) dispatchers(running []queue.DispatcherState) {
	versions := map[string][]string{}
	for i := range running {
		d := &running[i]
		versions[d.Version] = append(versions[d.Version], d.Dispatcher)
		x.clock("dispatcher "+d.Dispatcher, time.Duration(d.ClockOff))
	}
	x.versions("dispatchers", fmt.Sprintf("%s of version", daemon.Plural(len(running), "dispatcher")), versions)
}

// versions warns when there are several.
func (x *examination) versions(what, text string, versions map[string][]string) {
	var all []string
	for version, names := range versions {
		slices.Sort(names)
		if version == "" {
			version = "unknown"
		}
		all = append(all, fmt.Sprintf("%s (%s)", version, daemon.Short(strings.Join(names, ", "), 60)))
	}
	slices.Sort(all)
	found := check{checkOK, what, text + " " + strings.Join(all, ", "), ""}
	if len(all) > 1 {
		found.State, found.Do = checkWarn, "Finish the upgrade: several versions work together, but not for long."
	}
	if len(all) > 0 {
		x.add(found)
	}
}

func (x *examination) storage(stores []queue.StoreCounts) {
	worst, fullest := 0.0, ""
	for _, s := range stores {
		if s.Limit <= 0 {
			continue
		}
		used := float64(s.Bytes) / float64(s.Limit)
		if used > worst {
			worst, fullest = used, s.Stream
		}
		text := fmt.Sprintf("%s has %s of %s", s.Stream, daemon.Size(s.Bytes), daemon.Size(s.Limit))
		do := "Raise --max-disk or the limit of this store (`dispatcher run --help`), or remove what is not needed; docs/contract.md says what happens when it is full."
		switch {
		case used > fullStore:
			x.add(check{checkBad, "storage", text, do})
		case used > fillingStore:
			x.add(check{checkWarn, "storage", text, do})
		}
	}
	if worst <= fillingStore {
		x.ok("storage", "no stream or store is filling; %s is the fullest with %.0f %%", orNone(fullest), 100*worst)
	}
}

func orNone(name string) string {
	if name == "" {
		return "none"
	}
	return name
}

// hosts looks at each agent and its ComfyUI.
func (x *examination) hosts(ctx context.Context, q *queue.Queue, hosts []queue.HostInfo) error {
	if len(hosts) == 0 {
		x.add(check{checkBad, "hosts", "none is online", "Start an agent beside each ComfyUI: `COMFY_HOSTS=http://127.0.0.1:8188 agent`."})
	}
	versions := map[string][]string{}
	for i := range hosts {
		h := &hosts[i]
		x.clock(h.Host+"'s agent", time.Duration(h.ClockOff))
		by, err := drainedBy(ctx, q, &h.HostState)
		if err != nil {
			return err
		}
		x.host(q, h, by)
		if h.State != queue.Offline {
			versions[h.Agent] = append(versions[h.Agent], h.Host)
		}
	}
	if len(versions) > 1 {
		x.versions("agents", "agents of version", versions)
	}
	return nil
}

func (x *examination) host(q *queue.Queue, h *queue.HostInfo, drainedBy string) {
	what := "host " + h.Host
	trouble := condition(&h.HostState, drainedBy)
	switch {
	case h.State == queue.Offline:
		x.add(check{checkWarn, what, fmt.Sprintf("its agent has gone, %s ago", daemon.Span(q.Now().Sub(h.Time))), "Start its agent again, if that was not intended."})
	case h.State == queue.Unhealthy:
		x.add(check{checkBad, what, trouble, "`dispatcher hosts` shows when it takes jobs again."})
	case trouble != "":
		x.add(check{checkWarn, what, trouble, ""})
	case h.Resting != nil:
		x.add(check{checkWarn, what, restWords(h, q.Now()), ""})
	case h.Capability == 0:
		x.add(check{checkWarn, what, "its agent has not stored what ComfyUI can run", "Wait until its ComfyUI is idle for a minute, then look at the log of its agent."})
	default:
		x.ok(what, "online, ComfyUI %s on %s, %d of %s busy, %s, %s", orUnknownVersion(h.Version), orUnknownVersion(h.Device),
			min(len(h.Running), h.Slots), daemon.Plural(h.Slots, "slot"), daemon.Plural(h.Blocks, "block"), daemon.Plural(h.Strikes, "strike"))
	}
}

func orUnknownVersion(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
