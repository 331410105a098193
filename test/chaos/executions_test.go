//go:build unix

package chaos_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// entry is a line of a host's journal: a run of one life of its process.
type entry struct {
	Life   int          `json:"life"` // process id
	Number int          `json:"number"`
	Run    comfysim.Run `json:"run"`
}

// execution is a run of a prompt. Its end is zero while it goes on.
type execution struct {
	host       string
	prompt     string
	from, till time.Time
	outcome    comfysim.Outcome
	stranger   bool // a prompt of the fault backlog
}

// executions reads the journals of all hosts. A run under which its process was killed ended with the process.
func (f *fleet) executions() ([]execution, error) {
	var all []execution
	for _, host := range f.shape.hosts() {
		entries, err := readJournal(f.journal(host))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			x := execution{host: host, prompt: e.Run.PromptID, from: e.Run.Started, till: e.Run.Ended, outcome: e.Run.Outcome, stranger: e.Run.ClientID == "stranger"}
			if died, dead := f.by[host].endOf(e.Life); dead && x.till.IsZero() {
				x.till, x.outcome = died, comfysim.Died
			}
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b execution) int { return a.from.Compare(b.from) })
	return all, nil
}

func readJournal(path string) (map[string]entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	entries := map[string]entry{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) == nil { // a killed process may leave half a line
			entries[fmt.Sprint(e.Life, "-", e.Number)] = e
		}
	}
	return entries, lines.Err()
}

// doubles are executions of a job that began while an earlier attempt of it was still going on.
type doubles struct {
	leases      int // the earlier attempt was lost: its lease ran out
	unreachable int // its ComfyUI gave no answer, or would not stop
	unexplained []string
}

// countDoubles goes through each job's executions in the order they began. The chain says why the lower of two attempts
// was given up; one that was not is nobody's to repeat. A lower one may also be the later: a prompt that waited on its
// host until after it was given up.
func countDoubles(l *ledger, all []execution) doubles {
	byJob := map[string][]execution{}
	for _, x := range all {
		if started, known := l.prompts[x.prompt]; known {
			key := string(started.Tenant) + "/" + string(started.Job)
			byJob[key] = append(byJob[key], x)
		}
	}
	var d doubles
	for key, runs := range byJob {
		for i, x := range runs {
			for _, earlier := range runs[:i] {
				if earlier.till.IsZero() || earlier.till.After(x.from) {
					lower, higher := earlier, x
					if l.prompts[lower.prompt].Attempt > l.prompts[higher.prompt].Attempt {
						lower, higher = higher, lower
					}
					d.judge(l, key, lower, higher)
				}
			}
		}
	}
	return d
}

func (d *doubles) judge(l *ledger, key string, lower, higher execution) {
	attempt := l.prompts[lower.prompt].Attempt
	for _, e := range l.chains[key] {
		if e.EventKind != job.Failed || e.Attempt != attempt {
			continue
		}
		switch e.Kind {
		case failure.Lost:
			d.leases++
		case failure.HostLost, failure.Timeout, failure.HostSick, failure.Interrupted:
			d.unreachable++
		default:
			d.unexplained = append(d.unexplained, fmt.Sprintf("%s: attempt %d ended as %s and ran on %s beside prompt %s on %s: %s",
				key, attempt, e.Kind, lower.host, higher.prompt, higher.host, kinds(l.chains[key])))
		}
		return
	}
	d.unexplained = append(d.unexplained, fmt.Sprintf("%s: attempt %d ran on %s beside prompt %s on %s, and nothing says that it was lost: %s",
		key, attempt, lower.host, higher.prompt, higher.host, kinds(l.chains[key])))
}
