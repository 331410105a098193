package queue

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// OverviewRequest asks for the fleet as a whole.
type OverviewRequest struct {
	Trend bool      `json:"trend,omitempty"` // also the last hour in steps of 10 s
	Day   time.Time `json:"day,omitzero"`    // also what was stored since then, at most 48 h ago
}

// OverviewAnswer is the fleet as a whole. What is counted of hosts, blocks and waiting jobs is at most some seconds old.
type OverviewAnswer struct {
	Time        time.Time             `json:"time"`                 // of NATS
	Counts      map[job.EventKind]int `json:"counts"`               // number of jobs by state, of those whose events are stored
	Since       jetstream.Mark        `json:"since"`                // jobs whose last event is older are not counted
	Reading     string                `json:"reading,omitempty"`    // how far the events are read, while counts and rates are not complete
	Rates       []Rate                `json:"rates"`                // of the last minute, 5 and 15 minutes, and hour
	Trend       []Rate                `json:"trend,omitempty"`      // the last hour in steps of 10 s, oldest first
	Day         *Rate                 `json:"day,omitempty"`        // since the quarter of an hour in which the day of the request began
	Hosts       map[string]int        `json:"hosts"`                // by state, and resting and offline
	Slots       SlotCounts            `json:"slots"`                //
	Waiting     map[string]int        `json:"waiting"`              // jobs by reason; turn are those that only wait their turn
	OldestDue   *time.Time            `json:"oldest_due,omitempty"` // since when the oldest of them could run
	Blocks      map[failure.Kind]int  `json:"blocks"`               // blocked pairs by kind
	Pairs       PairCounts            `json:"pairs"`                //
	Tenants     []TenantCounts        `json:"tenants"`              // at most 200, those with the most waiting jobs first
	MoreTenants int                   `json:"more_tenants,omitempty"`
	Dispatchers int                   `json:"dispatchers"` // that are live
	Storage     []StoreCounts         `json:"storage"`
	Needs       []Need                `json:"needs"` // what a person should look at, the most urgent first
}

// Rate counts what was stored in a time.
type Rate struct {
	Window    job.Duration `json:"window"` // how long it is
	Until     time.Time    `json:"until"`  // when it ends
	Queued    int          `json:"queued"`
	Started   int          `json:"started"`
	Failed    int          `json:"failed"`
	Completed int          `json:"completed"`
	Dead      int          `json:"dead"`
	Cancelled int          `json:"cancelled"`
}

// SlotCounts are the slots of all hosts: Out are those of hosts that take no jobs.
type SlotCounts struct {
	Busy int `json:"busy"`
	Free int `json:"free"`
	Out  int `json:"out"`
}

// PairCounts are pairs of a host that is present and a workflow whose jobs it ran last, or that is blocked there.
type PairCounts struct {
	Active  int `json:"active"`
	Blocked int `json:"blocked"`
}

// TenantCounts is what a tenant has waiting and running, and its part of the fleet.
type TenantCounts struct {
	Tenant     job.Tenant     `json:"tenant"`
	Weight     float64        `json:"weight"`
	MaxRunning int            `json:"max_running,omitempty"`
	Running    int            `json:"running"`
	Waiting    map[string]int `json:"waiting,omitempty"` // jobs by reason, as in the overview
	OldestDue  *time.Time     `json:"oldest_due,omitempty"`
	Used       float64        `json:"used"` // GPU-seconds lately, those of 10 minutes ago count half
	Share      float64        `json:"share"`
	Due        float64        `json:"due"` // the share that follows from the weights of the tenants that have jobs

	GPUSeconds float64      `json:"gpu_seconds"`        // how long its jobs ran on hosts in the last 24 h
	WaitP95    job.Duration `json:"wait_p95,omitempty"` // of its jobs that began in the last hour 95 % had waited no longer, to a fifth of it
	Dead       int          `json:"dead,omitempty"`     // jobs whose events are stored
}

// StoreCounts is how full a stream is.
type StoreCounts struct {
	Stream   string `json:"stream"`
	Bytes    int64  `json:"bytes"`
	Limit    int64  `json:"limit,omitempty"` // 0: it has none
	Messages uint64 `json:"messages"`

	Since *time.Time   `json:"since,omitempty"` // when the oldest message was stored
	Age   job.Duration `json:"age,omitempty"`   // after which messages are removed; 0: never
}

// Rule is why a person should look at something. The rules have the names and limits of the alerts.
type Rule string

const (
	JobsWaitLong  Rule = "jobs_wait_long"
	NoHostCanRun  Rule = "no_host_can_run"
	AllBlocked    Rule = "all_blocked"
	HostsMissing  Rule = "hosts_missing"
	HostsSick     Rule = "hosts_sick"
	DeadRateHigh  Rule = "dead_rate_high"
	StoreFilling  Rule = "store_filling"
	NoHosts       Rule = "no_hosts"
	TenantStarved Rule = "tenant_starved"
)

// Need is something that a person should look at.
type Need struct {
	Rule    Rule       `json:"rule"`
	Text    string     `json:"text"`
	Count   int        `json:"count"`
	Tenant  job.Tenant `json:"tenant,omitempty"`
	Host    string     `json:"host,omitempty"`
	Command string     `json:"command,omitempty"` // that shows more
}

// DispatchersRequest asks for the live dispatchers.
type DispatchersRequest struct{}

// DispatchersAnswer lists the live dispatchers by name.
type DispatchersAnswer struct {
	Dispatchers []DispatcherState `json:"dispatchers"`
	Answered    string            `json:"answered"` // the one that answered
}

// SettingsRequest asks for the settings that are set.
type SettingsRequest struct{}

// SettingsAnswer lists the settings of the dispatcher that answered, and what is stored in NATS.
type SettingsAnswer struct {
	Dispatcher string    `json:"dispatcher"`
	Settings   []Setting `json:"settings"`
}

// Setting is one setting and where it comes from.
type Setting struct {
	Name  string `json:"name"` // of the flag, or of the stream and its limit
	Value string `json:"value"`
	From  string `json:"from"` // default, flag, environment or NATS
}
