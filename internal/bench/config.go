package bench

import (
	"errors"
	"math"
	"time"
)

// Config is one measurement. The zero value measures 10 000 jobs in a burst on 100 hosts with 2 dispatchers.
type Config struct {
	Jobs        int           // default 10 000
	Payload     int           // bytes of a job; default 2 048
	Hosts       int           // default 100
	Agents      int           // that share the hosts, each with a connection; default 1
	Slots       int           // of each host; default 1
	Tenants     int           // default 4
	Hashes      int           // different workflows; default 8
	Dispatchers int           // default 2
	FailureRate float64       // of attempts, 0 to 0.9
	Scheduled   float64       // share of the jobs that have a run_at, one second after they are published; 0 to 1
	Rate        float64       // jobs published a second; 0 = all at once
	HostTime    time.Duration // how long a host takes for a job
	Waiting     int           // jobs that wait all the time in the waiting room, for a host that stays busy
	Blocks      int           // blocks in force all the time, of other workflows on these hosts
	Comfy       bool          // simulated ComfyUI over sockets instead of the host in this process
	HistoryRows int           // the most jobs in a dispatcher's lists; default its own
	SkipRaw     bool          // do not measure the raw limit
	Observed    bool          // with traces and webhooks
	TraceRatio  float64       // of the traces that are exported then
	Viewers     int           // of the page, which is there with one at least

	// Of RunApart only.
	Processes   int           // that share the hosts
	Quiet       time.Duration // how long is counted before the first job; default 15 s
	PresenceTTL time.Duration // default that of a fleet

	NATSURL     string // another NATS than an embedded one; must be loopback
	StoreDir    string // of the embedded NATS; default a temporary folder
	SyncAlways  bool
	SyncEvery   time.Duration
	Compression bool
	Replicas    int  // of streams and buckets; default 1; the embedded NATS is a cluster of as many servers
	Closed      bool // the embedded NATS lets in only those with credentials: an account for each tenant and each host, with its own agent

	Progress func(Progress) // called some times a second
}

// Progress is how far a measurement is.
type Progress struct {
	Stage string // raw, hosts alone, blocks, waiting room or comfyherd; of a fleet of processes start, no jobs or comfyherd
	Done  int
	Total int
}

const mostReplicas = 5 // of NATS

// maxWaiting is the usual cap of the waiting room.
const maxWaiting = 100_000

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field    *int
		fallback int
	}{{&c.Jobs, 10_000}, {&c.Payload, 2048}, {&c.Hosts, 100}, {&c.Agents, 1}, {&c.Slots, 1}, {&c.Tenants, 4}, {&c.Hashes, 8}, {&c.Dispatchers, 2}, {&c.Replicas, 1}} {
		if *d.field == 0 {
			*d.field = d.fallback
		}
	}
	if c.Closed && c.Agents == 1 {
		c.Agents = c.Hosts
	}
	if c.Quiet == 0 {
		c.Quiet = 15 * time.Second
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return c
}

func (c Config) check() error {
	switch {
	case min(c.Jobs, c.Hosts, c.Agents, c.Slots, c.Tenants, c.Hashes, c.Dispatchers, c.Replicas) < 1:
		return errors.New("jobs, hosts, agents, slots, tenants, hashes, dispatchers and replicas must be at least 1")
	case c.Payload < 600 || c.Payload > 900_000:
		return errors.New("the payload must have 600 to 900 000 bytes")
	case !(c.FailureRate >= 0 && c.FailureRate <= 0.9): // NaN is none either
		return errors.New("the failure rate must be 0 to 0.9")
	case !(c.Scheduled >= 0 && c.Scheduled <= 1):
		return errors.New("the share of scheduled jobs must be 0 to 1")
	case math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0):
		return errors.New("the rate must be a number of jobs a second")
	case c.Rate < 0 || c.HostTime < 0 || c.Waiting < 0 || c.Blocks < 0:
		return errors.New("rate, host time, waiting jobs and blocks must not be negative")
	case c.Waiting > maxWaiting:
		return errors.New("at most 100 000 jobs can wait: a dispatcher takes in no more")
	case c.NATSURL == "" && c.Replicas > mostReplicas:
		return errors.New("the embedded NATS keeps at most 5 copies, each on a server of its own")
	case c.NATSURL != "" && (c.StoreDir != "" || c.SyncAlways || c.SyncEvery > 0):
		return errors.New("the store folder and the sync policy are the embedded NATS's, but NATS_URL names another: set them there, or leave NATS_URL empty")
	case c.Closed && c.NATSURL != "":
		return errors.New("a closed fleet is measured on the embedded NATS: leave NATS_URL empty")
	case c.Closed && c.Agents != c.Hosts:
		return errors.New("in a closed fleet each host has an agent with credentials of its own: leave the number of agents out")
	case c.Agents > c.Hosts:
		return errors.New("more agents than hosts: each agent needs a host")
	case c.Comfy && c.FailureRate > 0:
		return errors.New("a simulated ComfyUI fails no share of its attempts: measure a failure rate without --comfy")
	case c.Comfy && c.Hosts > 64:
		return errors.New("with --comfy at most 64 hosts fit into one process: use --hosts 64 or fewer")
	}
	return nil
}
