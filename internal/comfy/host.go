package comfy

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Options of a Host. The zero value works.
type Options struct {
	FreezeTimeout time.Duration // no HTTP answer for so long, and its port takes no connection, while a prompt is on the host: host_lost; default 15 s
	SilentTimeout time.Duration // the same while its port takes connections; default 8 times FreezeTimeout, which is 2 min
	PollInterval  time.Duration // between two looks at an outstanding prompt; default 1 s
	PingInterval  time.Duration // between two websocket pings; a socket without any sign for two of them is re-opened; default 15 s
	QuietTime     time.Duration // a prompt without any event for so long makes Run look for a dead worker; default 5 s
	StuckTime     time.Duration // a prompt that goes on for so long after a request to stop makes the host stuck; default 15 s
	ProcessReader ProcessReader // what can be seen of ComfyUI's process from outside of it; nil looks for it on this machine
	Logger        *slog.Logger  // nothing above warnings; nil discards

	// Observe, if set, is called after each request with the first part of its path, as /history, the status of the answer, 0 without any, and
	// the time until its header was there.
	Observe func(route string, status int, took time.Duration)

	idleTime time.Duration // the constant of that name; shorter in tests
}

// Host is one ComfyUI server. Its methods may be called at the same time from
// any goroutines, except Listen, of which one may run.
type Host struct {
	base    url.URL // without user and query
	user    *url.Userinfo
	options Options
	log     *slog.Logger
	client  *http.Client
	dialer  websocket.Dialer
	threads threads // of ComfyUI's process, where they can be seen

	changed    chan struct{}
	born       time.Time
	lastAnswer atomic.Int64 // when the newest HTTP answer came: nanoseconds since born, by the monotonic clock
	absent     atomic.Bool  // the newest answer came from a proxy that cannot reach ComfyUI
	reading    atomic.Int32 // requests of /object_info under way: ComfyUI answers nothing else meanwhile
	relays     atomic.Int32 // runs that want their frames
	oldJobs    atomic.Bool  // the server lacks /api/jobs/{id}
	oldCancel  atomic.Bool  // the server lacks /api/jobs/{id}/cancel
	spellings  atomic.Pointer[map[string]string]
	seedLimits atomic.Pointer[map[string]uint64]

	mu        sync.Mutex
	state     State
	session   *session            // the open socket, nil without one
	tracks    map[string]*tracker // by prompt id; one for each running Run
	lost      int                 // sockets that the host dropped
	worker    worker
	listening bool
	unsure    map[string]time.Time // when a POST of that id began whose outcome is not known
	identity  identity
	files     map[string][]fileRef // files of ours on the host, by prompt
	albums    map[string]*album    // pictures that came over the websocket, by prompt, until Discard
	proofs    map[madeFile]string  // versions of files outside of their prompt's folder that prompts of ours wrote
	classes   map[string]bool      // of the newest /object_info: whether a class is an output node; nil before it was read
	roots     map[string]string    // paths of ComfyUI's folders on this machine, by kind; empty: they are not on it
	stopping  map[string]time.Time // when a prompt was first asked to stop
	idleLooks int                  // looks in a row at which prompts waited and none ran
	idleSince time.Time            // of the first of them
}

// State is what the websocket shows of the host between two probes.
type State struct {
	Connected      bool // the websocket is open
	QueueRemaining int  // all pending and running prompts, from the newest status message
}

// New returns the host at baseURL: http or https, with an optional path prefix
// and user:password (sent as basic auth, never logged). It makes no connection.
func New(baseURL string, o Options) (*Host, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("the address %s of a ComfyUI host cannot be read; write it like http://127.0.0.1:8188", withoutUser(baseURL))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%s is no address of a ComfyUI host; write it like http://127.0.0.1:8188", withoutUser(baseURL))
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the address %s of a ComfyUI host has a query; leave out what follows the path", withoutUser(baseURL))
	}
	h := &Host{
		born:    time.Now(),
		base:    url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path},
		user:    u.User,
		options: o.withDefaults(),
		changed: make(chan struct{}, 1),
		tracks:  map[string]*tracker{},
		unsure:  map[string]time.Time{},
		albums:  map[string]*album{}, proofs: map[madeFile]string{},
		files: map[string][]fileRef{}, roots: map[string]string{}, stopping: map[string]time.Time{},
	}
	h.log = h.options.Logger.With("comfyui", h.String())
	if h.threads.reader = h.options.ProcessReader; h.threads.reader == nil {
		h.threads.reader = newProcessReader(u.Hostname(), h.port(), "python")
	}
	h.client = newClient(h.options)
	h.dialer = websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: handshakeTimeout}
	return h, nil
}

// withoutUser quotes an address, which may be malformed, without a query and without all before the last @, which may be
// a user and a password.
func withoutUser(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		address = "…@" + address[at+1:]
	}
	address, _, _ = strings.Cut(address, "?")
	return strconv.Quote(clip(address, 200))
}

// port is the TCP port of the host.
func (h *Host) port() string {
	return cmp.Or(h.base.Port(), map[string]string{"http": "80", "https": "443"}[h.base.Scheme])
}

func (o Options) withDefaults() Options {
	o.FreezeTimeout = cmp.Or(o.FreezeTimeout, 15*time.Second)
	o.PollInterval = cmp.Or(o.PollInterval, time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, 15*time.Second)
	o.QuietTime = cmp.Or(o.QuietTime, 5*time.Second)
	o.SilentTimeout = max(cmp.Or(o.SilentTimeout, 8*o.FreezeTimeout), o.FreezeTimeout)
	o.StuckTime = cmp.Or(o.StuckTime, 15*time.Second)
	o.idleTime = cmp.Or(o.idleTime, idleTime)
	o.PollInterval = min(o.PollInterval, o.FreezeTimeout/3)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// newClient makes a client that closes idle connections long before ComfyUI does (75 s and more), so that a POST is
// seldom sent on one that the host has closed.
func newClient(o Options) *http.Client {
	dialer := net.Dialer{Timeout: min(5*time.Second, o.FreezeTimeout), KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     20 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// String is the host's address without user and password.
func (h *Host) String() string { return h.base.String() }

// Close drops the idle HTTP connections and the pictures that were kept. It does not end Listen.
func (h *Host) Close() {
	h.client.CloseIdleConnections()
	h.mu.Lock()
	albums := h.albums
	h.albums = map[string]*album{}
	h.mu.Unlock()
	for _, a := range albums {
		a.drop()
	}
}

// Changed receives a value after State changed; changes in quick succession
// are one value. It is for a single reader.
func (h *Host) Changed() <-chan struct{} { return h.changed }

// State is the newest state that Listen has seen.
func (h *Host) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// setState must be called with h.mu held.
func (h *Host) setState(s State) {
	if h.state == s {
		return
	}
	h.state = s
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *Host) register(t *tracker) (known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tracks[t.id] != nil {
		return true
	}
	h.tracks[t.id] = t
	return false
}

func (h *Host) unregister(ids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		delete(h.tracks, id)
	}
}

// alias lets events that name id reach t too.
func (h *Host) alias(id string, t *tracker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tracks[id] = t
}

// submitBegins records that a POST of id is under way; submitKnown that its outcome is known, so that the state Unknown
// means that the prompt is not on the host.
func (h *Host) submitBegins(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other, since := range h.unsure {
		if time.Since(since) > 10*submitTimeout {
			delete(h.unsure, other)
		}
	}
	h.unsure[id] = time.Now()
}

func (h *Host) submitKnown(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.unsure, id)
}

func (h *Host) submitUnknown(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, unsure := h.unsure[id]
	return unsure
}

// outstanding counts the prompts on the host that this process has submitted.
func (h *Host) outstanding() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for id, t := range h.tracks {
		if id == t.id && t.onHost.Load() {
			n++
		}
	}
	return n
}

// drops counts the sockets that the host has dropped so far.
func (h *Host) drops() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}
