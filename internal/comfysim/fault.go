package comfysim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// FaultKind says what happens. The set is closed.
type FaultKind string

// Faults of a run. They happen at the node of the fault's Class, else at the run's first timed node (KSampler, SimSleep,
// extra classes), else at its first node; after Delay. A run answered whole from the cache has no such node and meets none.
const (
	FaultRaise      FaultKind = "raise"       // Exception (a Python type or a kind of SimRaise) and Message
	FaultOOM        FaultKind = "oom"         // torch.OutOfMemoryError; with MinSize only for graphs at least that big
	FaultDiskFull   FaultKind = "disk_full"   // OSError ENOSPC, by default at nodes that save
	FaultHang       FaultKind = "hang"        // never finishes, but can be interrupted
	FaultHangHard   FaultKind = "hang_hard"   // never finishes and cannot be interrupted
	FaultDie        FaultKind = "die"         // the process dies; it comes back after Restart, if set
	FaultWedge      FaultKind = "wedge"       // the worker thread dies
	FaultInterrupt  FaultKind = "interrupt"   // another client interrupts it
	FaultFreeze     FaultKind = "freeze"      // the process stands still, for For or until Thaw
	FaultExitWorker FaultKind = "system_exit" // the node raises SystemExit: the worker thread ends without any message
	FaultPoison     FaultKind = "poison"      // the device is lost: this and every later timed node raises until the process is restarted
)

// Faults of a whole run.
const (
	FaultSlow          FaultKind = "slow"           // every time is multiplied by Factor
	FaultDeaf          FaultKind = "deaf"           // the submitter's socket (without a client id: all) stays open and gets nothing more, from the start of the run
	FaultStall         FaultKind = "stall"          // no socket gets anything for For (0: an hour), from the start of the run
	FaultNaN           FaultKind = "nan"            // a bare NaN in executed and in the history
	FaultMissingOutput FaultKind = "missing_output" // success, but the files are gone
	FaultHistoryWiped  FaultKind = "history_wiped"  // another client clears the history right after it ended
)

// Faults of POST /prompt.
const (
	FaultRefuse          FaultKind = "refuse"            // answered with Status (503) and not queued
	FaultSlowAccept      FaultKind = "slow_accept"       // queued at once, answered after Delay
	FaultResetAfterQueue FaultKind = "reset_after_queue" // queued, then the connection is reset without an answer
	FaultNodeErrors      FaultKind = "node_errors"       // 200 with node_errors for the last output, which does not run unless it is the only one
	FaultDeletePending   FaultKind = "delete_pending"    // another client deletes it before it runs
	FaultProxy           FaultKind = "proxy"             // a proxy answers in ComfyUI's place, with Status (403) and a page of HTML; of the conditions only Text is checked
)

// Faults of any request whose path begins with Path, and of the host.
const (
	FaultWrongJSON  FaultKind = "wrong_json"  // 200 with a body that is cut off
	FaultSlowAnswer FaultKind = "slow_answer" // answered after Delay
	FaultStatus     FaultKind = "status"      // answered with Status (500)
	FaultSlowInfo   FaultKind = "slow_info"   // /object_info takes For, and until then no request is answered and no message sent; prompts run on
	FaultBacklog    FaultKind = "backlog"     // at once: Count prompts of another client, each running for For
)

// FaultKinds lists all kinds.
func FaultKinds() []FaultKind {
	return []FaultKind{
		FaultRaise, FaultOOM, FaultDiskFull, FaultHang, FaultHangHard, FaultDie, FaultWedge, FaultInterrupt, FaultFreeze,
		FaultExitWorker, FaultPoison, FaultSlow, FaultDeaf, FaultStall, FaultNaN, FaultMissingOutput, FaultHistoryWiped, FaultRefuse,
		FaultSlowAccept, FaultResetAfterQueue, FaultNodeErrors, FaultDeletePending, FaultProxy, FaultWrongJSON,
		FaultSlowAnswer, FaultStatus, FaultSlowInfo, FaultBacklog,
	}
}

// Fault is one scripted failure: which jobs or requests it applies to, how often, and what happens. Empty conditions always hold; the
// others must all hold. In JSON, durations are Go strings ("1.5s").
type Fault struct {
	Kind FaultKind `json:"kind"`

	Class      string `json:"class,omitempty"`      // the graph has a node of this class
	Text       string `json:"text,omitempty"`       // the POSTed body contains this: an input, a file name, a job id
	Checkpoint string `json:"checkpoint,omitempty"` // some input of the graph is exactly this
	Path       string `json:"path,omitempty"`       // the request's path begins with this, without /api
	MinSize    int64  `json:"min_size,omitempty"`   // the graph's width × height × batch × frames is at least this

	Every       int     `json:"every,omitempty"`       // only every Nth that fulfils the conditions
	Probability float64 `json:"probability,omitempty"` // only with this probability, from Config.Seed
	Times       int     `json:"times,omitempty"`       // at most this often; 0 means always

	Delay     time.Duration `json:"delay,omitempty"`
	For       time.Duration `json:"for,omitempty"`
	Restart   time.Duration `json:"restart,omitempty"`
	Exception string        `json:"exception,omitempty"`
	Message   string        `json:"message,omitempty"`
	Status    int           `json:"status,omitempty"`
	Factor    float64       `json:"factor,omitempty"`
	Count     int           `json:"count,omitempty"`
}

type faultFields Fault

// faultJSON has the durations as strings; its fields hide those of the embedded struct.
type faultJSON struct {
	*faultFields
	Delay   string `json:"delay,omitempty"`
	For     string `json:"for,omitempty"`
	Restart string `json:"restart,omitempty"`
}

// MarshalJSON writes durations as Go strings.
func (f Fault) MarshalJSON() ([]byte, error) {
	fields := faultFields(f)
	out := faultJSON{faultFields: &fields}
	for text, d := range map[*string]time.Duration{&out.Delay: f.Delay, &out.For: f.For, &out.Restart: f.Restart} {
		if d != 0 {
			*text = d.String()
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON refuses unknown kinds and bad durations.
func (f *Fault) UnmarshalJSON(data []byte) error {
	in := faultJSON{faultFields: (*faultFields)(f)}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if !slices.Contains(FaultKinds(), f.Kind) {
		return fmt.Errorf("unknown fault kind %q", f.Kind)
	}
	for text, d := range map[*string]*time.Duration{&in.Delay: &f.Delay, &in.For: &f.For, &in.Restart: &f.Restart} {
		if *text == "" {
			continue
		}
		var err error
		if *d, err = time.ParseDuration(*text); err != nil {
			return err
		}
	}
	return nil
}

// AddFault makes a fault apply from now on. A backlog fault acts at once.
func (s *Server) AddFault(f Fault) {
	if f.Kind == FaultBacklog {
		if p := s.current(); p != nil {
			p.queueForeign(max(f.Count, 1), f.For)
		}
		return
	}
	s.faults.add(f)
}

// ClearFaults removes all faults. What they have begun (a hang, a freeze, a deaf socket) goes on.
func (s *Server) ClearFaults() { s.faults.clear() }

// Faults returns the faults in force.
func (s *Server) Faults() []Fault { return s.faults.all() }

// faultSet holds the faults in force and counts how often their conditions held.
type faultSet struct {
	mu    sync.Mutex
	armed []*armedFault
	rng   *rand.Rand
}

type armedFault struct {
	Fault
	seen, fired int
}

func newFaultSet(seed uint64) *faultSet {
	return &faultSet{rng: rand.New(rand.NewPCG(seed, 0))}
}

func (s *faultSet) add(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = append(s.armed, &armedFault{Fault: f})
}

func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = nil
}

func (s *faultSet) all() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := []Fault{}
	for _, f := range s.armed {
		faults = append(faults, f.Fault)
	}
	return faults
}

// take returns the faults that apply now by their conditions, Every, Probability and Times, and counts them.
func (s *faultSet) take(fits func(Fault) bool) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []Fault
	for _, f := range s.armed {
		if !fits(f.Fault) || f.spent() {
			continue
		}
		f.seen++
		if f.Every > 1 && f.seen%f.Every != 0 || f.Probability > 0 && s.rng.Float64() >= f.Probability {
			continue
		}
		f.fired++
		taken = append(taken, f.Fault)
	}
	s.armed = slices.DeleteFunc(s.armed, (*armedFault).spent)
	return taken
}

func (f *armedFault) spent() bool { return f.Times > 0 && f.fired >= f.Times }

func (s *faultSet) forRun(e *entry) []Fault {
	return s.take(func(f Fault) bool { return f.ofRun() && f.meets(e) })
}

func (s *faultSet) forSubmit(e *entry) []Fault {
	return s.take(func(f Fault) bool { return f.ofSubmit() && f.meets(e) })
}

func (s *faultSet) forRequest(path string) []Fault {
	return s.take(func(f Fault) bool {
		return f.ofRequest() && strings.HasPrefix(path, f.Path) && (f.Kind != FaultSlowInfo || path == "/object_info")
	})
}

// forBody is for faults in front of ComfyUI, such as a proxy's, which have only the bytes of the request.
func (s *faultSet) forBody(body string) []Fault {
	return s.take(func(f Fault) bool { return f.Kind == FaultProxy && strings.Contains(body, f.Text) })
}

func (f Fault) ofSubmit() bool {
	switch f.Kind {
	case FaultRefuse, FaultSlowAccept, FaultResetAfterQueue, FaultNodeErrors, FaultDeletePending:
		return true
	}
	return false
}

func (f Fault) ofRequest() bool {
	switch f.Kind {
	case FaultWrongJSON, FaultSlowAnswer, FaultStatus, FaultSlowInfo:
		return true
	}
	return false
}

func (f Fault) ofRun() bool {
	return !f.ofSubmit() && !f.ofRequest() && f.Kind != FaultBacklog && f.Kind != FaultProxy
}

// meets says whether a prompt fulfils the fault's conditions.
func (f Fault) meets(e *entry) bool {
	has := func(is func(*node) bool) bool {
		return slices.ContainsFunc(e.graph.order, func(id string) bool { return is(e.graph.nodes[id]) })
	}
	if f.Class != "" && !has(func(n *node) bool { return n.className() == f.Class }) {
		return false
	}
	if f.Checkpoint != "" && !has(func(n *node) bool { return n.holds(f.Checkpoint) }) {
		return false
	}
	return strings.Contains(e.body, f.Text) && (f.MinSize == 0 || e.graph.size() >= f.MinSize)
}

func (n *node) holds(value string) bool {
	return slices.ContainsFunc(n.order, func(name string) bool { return n.inputs[name] == value })
}

// size is the largest width × height × batch × frames of any node.
func (g *graph) size() int64 {
	var largest int64
	for _, n := range g.nodes {
		if n.inputs["width"] == nil || n.inputs["height"] == nil {
			continue
		}
		size := integer(n.inputs["width"]) * integer(n.inputs["height"])
		for _, name := range []string{"batch_size", "length"} {
			size *= max(1, integer(n.inputs[name]))
		}
		largest = max(largest, size)
	}
	return largest
}
