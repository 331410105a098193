package bench

import (
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// samples collects durations from many goroutines.
type samples struct {
	mu     sync.Mutex // guards values
	values []time.Duration
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	s.values = append(s.values, d)
	s.mu.Unlock()
}

// between adds the time between each two of a host's runs.
func (s *samples) between(runs []comfysim.Run) {
	runs = slices.Clone(runs)
	slices.SortFunc(runs, func(a, b comfysim.Run) int { return a.Started.Compare(b.Started) })
	for i := range max(len(runs)-1, 0) {
		s.add(max(runs[i+1].Started.Sub(runs[i].Ended), 0))
	}
}

// Spread describes a set of durations, in milliseconds.
type Spread struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func (s *samples) spread() Spread {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.values) == 0 {
		return Spread{}
	}
	slices.Sort(s.values)
	at := func(q float64) float64 {
		return milliseconds(s.values[min(int(q*float64(len(s.values))), len(s.values)-1)])
	}
	return Spread{P50: at(0.5), P99: at(0.99), Max: at(1)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
