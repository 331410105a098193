package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
)

// Config of an Agent. Of a field that is a count or a duration, zero means the default and a negative value none.
type Config struct {
	Hosts    []HostConfig
	Slots    int // jobs that ComfyUI runs at a time; default 1
	Prefetch int // jobs accepted beyond Slots, so that the GPU never waits; default 1

	Drain         time.Duration // what running jobs get at shutdown; default 10 min
	StartTimeout  time.Duration // from the POST while nothing is before it; default 60 s
	NodeTimeout   time.Duration // without progress of the running node; default 10 min
	TotalTimeout  time.Duration // of the run; default none
	FreezeTimeout time.Duration // without any answer of ComfyUI; default 15 s

	// LearnEvery is the shortest pause between two readings of what an idle ComfyUI can run. Default 1 min.
	LearnEvery time.Duration

	// CancelTimeout is how long a prompt may take to stop before its host counts as unhealthy: a node without
	// progress ticks stops only when it is through. Default 10 s.
	CancelTimeout time.Duration

	Outputs   string // OutputsStore (default) or OutputsNone
	NoThumbs  bool   // make no small pictures of large ones
	KeepFiles bool   // leave the files of ended jobs in ComfyUI's folders; OutputsNone does so anyway
	MaxInput  int64  // bytes of one input file; default 4 GiB
	InputURLs string // where inputs may be fetched from: URLsPublic (default), URLsNone, URLsAny, or address ranges with commas

	Labels  []string // such as gpu=4090, of every host
	Version string   // of the agent, for people
	Machine string   // is in names instead of a loopback address, which every machine has; empty leaves the address

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers no metrics
}

// What becomes of the files that a job made.
const (
	OutputsStore = "store" // stream them into COMFY_OUTPUTS
	OutputsNone  = "none"  // leave them on the host; events have references
)

// HostConfig is one ComfyUI.
type HostConfig struct {
	Name  string  // in every subject and event; default from the URL's host and port, and the machine's name for loopback
	URL   string  // http://127.0.0.1:8188
	Comfy ComfyUI // nil drives URL
}

// Check says what is wrong with a configuration, if anything. It makes no connection.
func (c Config) Check() error {
	_, _, err := c.complete(nil)
	return err
}

// complete gives the configuration with its defaults, and its hosts, each with a name and a ComfyUI that calls observe after each
// request.
func (c Config) complete(observe func(route string, status int, took time.Duration)) (Config, []HostConfig, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return c, nil, err
	}
	hosts, err := named(c.Hosts, c.Machine)
	if err != nil {
		return c, nil, err
	}
	for i := range hosts {
		h := &hosts[i]
		if h.Comfy != nil {
			continue
		}
		h.Comfy, err = comfy.New(h.URL, comfy.Options{FreezeTimeout: c.FreezeTimeout, Logger: c.Logger.With("host", h.Name), Observe: observe})
		if err != nil {
			return c, nil, fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return c, hosts, nil
}

func (c Config) withDefaults() Config {
	c.Slots = max(1, c.Slots)
	c.Prefetch = max(0, cmp.Or(c.Prefetch, 1))
	c.Drain = max(0, cmp.Or(c.Drain, 10*time.Minute))
	c.StartTimeout = max(0, cmp.Or(c.StartTimeout, time.Minute))
	c.NodeTimeout = max(0, cmp.Or(c.NodeTimeout, 10*time.Minute))
	c.TotalTimeout = max(0, c.TotalTimeout)
	c.FreezeTimeout = cmp.Or(max(0, c.FreezeTimeout), 15*time.Second)
	c.CancelTimeout = max(0, cmp.Or(c.CancelTimeout, 10*time.Second))
	if c.LearnEvery <= 0 {
		c.LearnEvery = time.Minute
	}
	c.Outputs = cmp.Or(c.Outputs, OutputsStore)
	c.MaxInput = cmp.Or(c.MaxInput, maxInput)
	c.InputURLs = cmp.Or(c.InputURLs, URLsPublic)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) check() error {
	if len(c.Hosts) == 0 {
		return fmt.Errorf("no ComfyUI host is given: set COMFY_HOSTS, such as COMFY_HOSTS=http://127.0.0.1:8188")
	}
	if c.Outputs != OutputsStore && c.Outputs != OutputsNone {
		return fmt.Errorf("outputs is %q: use %q or %q", c.Outputs, OutputsStore, OutputsNone)
	}
	if _, err := parseReachable(c.InputURLs); err != nil {
		return err
	}
	for _, label := range c.Labels {
		if !job.ValidLabel(label) {
			return fmt.Errorf("%q is no label: write it like gpu=4090", label)
		}
	}
	return nil
}

// named gives every host its name, and refuses two of one name.
func named(hosts []HostConfig, machine string) ([]HostConfig, error) {
	urls := map[string]string{}
	all := make([]HostConfig, 0, len(hosts))
	for _, h := range hosts {
		h.Name = cmp.Or(h.Name, nameOf(h.URL, machine))
		if !job.ValidHost(h.Name) {
			return nil, fmt.Errorf("%q is no host name: use 1 to 64 of A-Z a-z 0-9 _ -, as in name=http://127.0.0.1:8188", h.Name)
		}
		if other, taken := urls[h.Name]; taken {
			return nil, fmt.Errorf("two hosts are named %s (%s and %s): name one, as in other=%s", h.Name, withoutUser(other), withoutUser(h.URL), withoutUser(h.URL))
		}
		urls[h.Name] = h.URL
		all = append(all, h)
	}
	return all, nil
}

// nameOf makes 10-0-0-5-8188 of http://10.0.0.5:8188, and gpubox-8188 of http://127.0.0.1:8188 on the machine gpubox.
func nameOf(address, machine string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	at := u.Host
	if machine != "" && loopback(u.Hostname()) {
		at = machine + ":" + u.Port()
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, at+strings.TrimRight(u.Path, "/"))
	return strings.Trim(name[max(0, len(name)-64):], "-")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// withoutUser is an address fit to be shown.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an unreadable address"
	}
	u.User = nil
	return u.String()
}
