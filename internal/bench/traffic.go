package bench

import (
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// Traffic is what `dispatcher bench --processes --json` prints: what a fleet of processes sends and receives a second.
type Traffic struct {
	Config      Settings `json:"config"`
	Processes   int      `json:"processes"` // that have the hosts
	PresenceTTL float64  `json:"presence_ttl_s"`

	Idle Window `json:"idle"` // without jobs
	Load Window `json:"load"` // from the first publish until the last job had ended

	PublishToStarted Spread `json:"publish_to_started"`
	Dead             int    `json:"dead"`
	DispatcherHeap   uint64 `json:"dispatcher_heap_bytes"` // live, the largest
}

// Window is a time in which was counted. Flows and CPU are those of a second.
type Window struct {
	Seconds       float64         `json:"seconds"`
	JobsPerSecond float64         `json:"jobs_per_second"`
	ByAgents      map[string]Flow `json:"sent_by_agents"`
	ToAgents      map[string]Flow `json:"received_by_agents"`
	ByDispatchers map[string]Flow `json:"sent_by_dispatchers"`
	ToDispatchers map[string]Flow `json:"received_by_dispatchers"`
	Cores         Cores           `json:"cores"`
}

// Cores is the CPU that each kind of process has used, in seconds a second.
type Cores struct {
	NATS        float64 `json:"nats_and_publisher"`
	Agents      float64 `json:"agents"`
	Dispatchers float64 `json:"dispatchers"`
}

func (t *Traffic) fill(begun, idle, loaded tally) {
	t.Idle, t.Load = window(begun, idle, 0), window(idle, loaded, t.Config.Jobs)
	t.DispatcherHeap = loaded.heap
}

func window(from, to tally, jobs int) Window {
	seconds := to.at.Sub(from.at).Seconds()
	core := func(i int) float64 { return (to.cpu[i] - from.cpu[i]).Seconds() / seconds }
	return Window{
		Seconds: seconds, JobsPerSecond: float64(jobs) / seconds,
		ByAgents: rates(from.byAgents, to.byAgents, seconds), ToAgents: rates(from.toAgents, to.toAgents, seconds),
		ByDispatchers: rates(from.byDispatchers, to.byDispatchers, seconds), ToDispatchers: rates(from.toDispatcher, to.toDispatcher, seconds),
		Cores: Cores{NATS: core(0), Agents: core(1), Dispatchers: core(2)},
	}
}

func rates(from, to map[string]Flow, seconds float64) map[string]Flow {
	all := map[string]Flow{}
	for class, f := range to {
		if f = f.plus(from[class].times(-1)); f.Messages > 0 {
			all[class] = f.times(1 / seconds)
		}
	}
	return all
}

// Expected is what the arithmetic of docs/performance.md gives for the dispatchers of a window: messages a second that all of them
// receive together, by class. Classes that have no simple rule are left out.
func (t *Traffic) Expected(w *Window) map[string]float64 {
	hosts, dispatchers, jobs := float64(t.Config.Hosts), float64(t.Config.Dispatchers), w.JobsPerSecond
	beat := (time.Duration(t.PresenceTTL*float64(time.Second)) / 3).Seconds()
	return map[string]float64{
		hostPresence:       hosts / beat * dispatchers,
		dispatcherPresence: dispatchers / beat * dispatchers,
		slotChange:         2 * jobs * dispatchers,
		jobDelivery:        jobs,
	}
}

// Print writes the traffic as a table for people.
func (t *Traffic) Print(c *daemon.Console) error {
	set := t.Config
	c.Print("%d hosts in %d processes, %d dispatchers in as many; presence every %.1f s; %.0f s without jobs, %.0f s with %.1f jobs a second of %s",
		set.Hosts, t.Processes, set.Dispatchers, t.PresenceTTL/3, t.Idle.Seconds, t.Load.Seconds, t.Load.JobsPerSecond, set.HostTime)
	c.Print("")
	if err := t.printFlows(c); err != nil {
		return err
	}
	c.Print("")
	each := float64(set.Dispatchers)
	return c.Table([][]string{
		{"", "without jobs", "with jobs"},
		{"cores of NATS and the publisher", cores(t.Idle.Cores.NATS), cores(t.Load.Cores.NATS)},
		{"cores of all agents", cores(t.Idle.Cores.Agents), cores(t.Load.Cores.Agents)},
		{"cores of one dispatcher", cores(t.Idle.Cores.Dispatchers / each), cores(t.Load.Cores.Dispatchers / each)},
		{"publish to started (p50 / p99 / max)", "", spread(t.PublishToStarted)},
		{"largest live heap of a dispatcher", "", size(float64(t.DispatcherHeap))},
		{"dead", "", fmt.Sprint(t.Dead)},
	})
}

func cores(n float64) string { return fmt.Sprintf("%.3f", n) }

// printFlows writes what goes to and from the dispatchers in both windows, beside what the arithmetic gives.
func (t *Traffic) printFlows(c *daemon.Console) error {
	rows := [][]string{{"messages and bytes a second", "agents send", "agents receive", "dispatchers send", "dispatchers receive", "arithmetic"}}
	for _, one := range []struct {
		title string
		of    *Window
	}{{"without jobs", &t.Idle}, {"with jobs", &t.Load}} {
		rows = append(rows, []string{one.title, "", "", "", "", ""})
		expected := t.Expected(one.of)
		for _, k := range classes {
			row := t.row(one.of, k.class)
			if row == nil {
				continue
			}
			if n, some := expected[k.class]; some {
				row[5] = count(n)
			}
			rows = append(rows, row)
		}
	}
	return c.Table(rows)
}

// row is nil for a class of which nothing was sent and nothing received.
func (t *Traffic) row(w *Window, class string) []string {
	row, some := []string{"  " + class, "", "", "", "", ""}, false
	for i, flows := range []map[string]Flow{w.ByAgents, w.ToAgents, w.ByDispatchers, w.ToDispatchers} {
		if f, sent := flows[class]; sent {
			row[i+1], some = count(f.Messages)+", "+size(f.Bytes), true
		}
	}
	if !some {
		return nil
	}
	return row
}
