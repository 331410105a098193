//go:build unix

package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
)

// stored is a message of a stream.
type stored struct {
	subject  string
	header   nats.Header
	body     []byte
	sequence uint64
	at       time.Time
}

const (
	readBatch  = 500
	answerTime = 500 * time.Millisecond // a server that takes longer counts as away and is read at the next step
	calmTime   = 20 * time.Second       // the same when no faults are injected any more, so only a slow machine takes long
)

// read gives the messages of a stream from a sequence on, by batched direct gets: a consumer could be left behind, or deliver nothing
// after a restart. It fails when the server does not say in time that these were all.
func read(nc *nats.Conn, stream string, from uint64, testTimeout time.Duration) ([]stored, error) {
	var all []stored
	for {
		part, more, err := readPart(nc, stream, from, testTimeout)
		all = append(all, part...)
		if err != nil || !more || len(part) == 0 {
			return all, err
		}
		from = part[len(part)-1].sequence + 1
	}
}

func readPart(nc *nats.Conn, stream string, from uint64, testTimeout time.Duration) (part []stored, more bool, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	ask := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">","batch":%d}`, from, readBatch)
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, ask); err != nil {
		return nil, false, err
	}
	for {
		msg, err := sub.NextMsg(testTimeout)
		if err != nil {
			return part, false, fmt.Errorf("read %s: %w", stream, err)
		}
		switch msg.Header.Get("Status") {
		case "204":
			return part, msg.Header.Get("Nats-Num-Pending") != "0", nil
		case "404":
			return part, false, nil
		case "":
		default:
			return part, false, errors.New("read " + stream + ": " + msg.Header.Get("Description"))
		}
		at, err := time.Parse(time.RFC3339Nano, msg.Header.Get("Nats-Time-Stamp"))
		if err != nil {
			return part, false, err
		}
		sequence, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return part, false, err
		}
		part = append(part, stored{subject: msg.Header.Get("Nats-Subject"), header: msg.Header, body: msg.Data, sequence: sequence, at: at})
	}
}

// live reports whether a bucket's message is a value and no marker of an end.
func (s *stored) live() bool {
	return s.header.Get("KV-Operation") == "" && s.header.Get("Nats-Marker-Reason") == ""
}

// event is one event of a job as it is stored.
type event struct {
	job.Event
	sequence uint64
	at       time.Time
}

// ledger has all events that were read from COMFY_EVENTS.
type ledger struct {
	last     uint64
	holes    []string
	chains   map[string][]event    // by tenant/job
	prompts  map[string]event      // started events by prompt
	blocks   map[string][]blockade // by host.hash
	finished []event               // completed, in order
	stored   map[uint64]string     // subject and body by sequence
}

// blockade is a time in which a pair was blocked.
type blockade struct {
	from, to time.Time
	lifted   bool
	body     []byte
}

func newLedger() *ledger {
	return &ledger{chains: map[string][]event{}, prompts: map[string]event{}, blocks: map[string][]blockade{}, stored: map[uint64]string{}}
}

// readOn reads the events that were stored since the last call.
func (l *ledger) readOn(nc *nats.Conn, testTimeout time.Duration) error {
	notes, err := read(nc, "COMFY_EVENTS", l.last+1, testTimeout)
	for _, n := range notes {
		if n.sequence != l.last+1 {
			l.holes = append(l.holes, fmt.Sprintf("event %d follows event %d", n.sequence, l.last))
		}
		l.last = n.sequence
		l.stored[n.sequence] = n.subject + "\n" + string(n.body)
		l.take(n)
	}
	return err
}

func (l *ledger) take(n stored) {
	parts := strings.Split(n.subject, ".")
	switch {
	case len(parts) == 6 && parts[2] == "jobs":
		l.takeJob(n, parts[3]+"/"+parts[4], job.EventKind(parts[5]))
	case len(parts) == 6 && parts[2] == "blocks":
		l.takeBlock(n, parts[3]+"."+parts[4], parts[5])
	}
}

func (l *ledger) takeJob(n stored, key string, kind job.EventKind) {
	decoded, err := job.DecodeEvent(kind, n.body)
	if err != nil {
		l.holes = append(l.holes, fmt.Sprintf("event %d: %v", n.sequence, err))
	}
	e := event{Event: decoded, sequence: n.sequence, at: n.at}
	l.chains[key] = append(l.chains[key], e)
	switch kind {
	case job.Started:
		l.prompts[e.PromptID] = e
	case job.Completed:
		l.finished = append(l.finished, e)
	}
}

// takeBlock uses the time of the change in the block table, which the event carries.
func (l *ledger) takeBlock(n stored, pair, kind string) {
	at, err := time.Parse(time.RFC3339Nano, n.header.Get("ce-time"))
	if err != nil {
		at = n.at
	}
	spans := l.blocks[pair]
	if open := len(spans) - 1; open >= 0 && !spans[open].lifted {
		spans[open].lifted = kind == "unblocked" || spans[open].lifted
		if at.Before(spans[open].to) {
			spans[open].to = at
		}
	}
	if kind == "blocked" {
		var block struct {
			Until time.Time `json:"until"`
		}
		_ = json.Unmarshal(n.body, &block) // without until it holds for no time, and the check finds nothing
		if len(spans) > 0 {
			spans[len(spans)-1].lifted = true // widened: the newer one goes on
		}
		spans = append(spans, blockade{from: at, to: block.Until, body: n.body})
	}
	l.blocks[pair] = spans
}

// begun is when a job's chain begins.
func (l *ledger) begun(key string) time.Time { return l.chains[key][0].at }

func (l *ledger) ended(key string) bool {
	chain := l.chains[key]
	return len(chain) > 0 && chain[len(chain)-1].EventKind.Terminal()
}

// kinds is a chain in one line, for messages; the numbers are seconds since its first event.
func kinds(chain []event) string {
	var text []string
	for _, e := range chain {
		one := string(e.EventKind)
		switch e.EventKind {
		case job.Started:
			one += fmt.Sprintf("(%d on %s)", e.Attempt, e.Host)
		case job.Failed:
			one += fmt.Sprintf("(%d on %s: %s)", e.Attempt, e.Host, e.Kind)
		case job.Dead:
			one += "(" + e.Reason + ")"
		case job.Waiting:
			one += "(" + e.Reason + ")"
		case job.Queued:
			one += fmt.Sprintf("(priority %d)", e.Priority)
		case job.Retrying, job.Completed, job.Cancelled:
		}
		if since := e.at.Sub(chain[0].at); since > 0 {
			one += fmt.Sprintf("+%.1f", since.Seconds())
		}
		text = append(text, one)
	}
	return strings.Join(text, " ")
}
