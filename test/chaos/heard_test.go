//go:build unix

package chaos_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// hearing is what a plain subscriber of all events hears, as the README tells people to listen.
type hearing struct {
	nc   *nats.Conn
	gaps atomic.Int64 // how often it was cut off; what is told meanwhile it does not hear

	mu    sync.Mutex // guards heard
	heard []told
}

// told is an event as it was heard.
type told struct {
	subject, body string
	sequence      string
	gaps          int64 // of hearing, when it came
}

func listen(f *fleet) *hearing {
	h := &hearing{nc: f.dial("listener")}
	f.t.Cleanup(h.nc.Close)
	h.nc.SetDisconnectErrHandler(func(*nats.Conn, error) { h.gaps.Add(1) })
	sub, err := h.nc.Subscribe("comfy.events.>", func(msg *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heard = append(h.heard, told{msg.Subject, string(msg.Data), msg.Header.Get("Nats-Sequence"), h.gaps.Load()})
	})
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = h.nc.FlushTimeout(calmTime)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

// differs compares what was heard with what is stored, from the first on. With one server nothing may be missing between two
// events unless the listener was cut off.
func (h *hearing) differs(stored map[uint64]string, last uint64, whole bool) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []string
	var before uint64
	var gaps int64
	for _, t := range h.heard {
		sequence, err := strconv.ParseUint(t.sequence, 10, 64)
		switch {
		case err != nil:
			found = append(found, fmt.Sprintf("%s was heard and does not say where it is stored: %s", t.subject, t.body))
			continue
		case sequence > last:
			return found // to be looked at when it was read
		case stored[sequence] != t.subject+"\n"+t.body:
			found = append(found, fmt.Sprintf("event %d was heard as %s %s and is stored as %s", sequence, t.subject, t.body, stored[sequence]))
		case sequence <= before:
			found = append(found, fmt.Sprintf("event %d was heard after event %d", sequence, before))
		case whole && before != 0 && sequence != before+1 && gaps == t.gaps:
			found = append(found, fmt.Sprintf("event %d was heard right after event %d", sequence, before))
		}
		before, gaps = sequence, t.gaps
	}
	return found
}

func (c *checker) heard() []string {
	return c.ears.differs(c.ledger.stored, c.ledger.last, c.f.shape.servers == 1)
}
