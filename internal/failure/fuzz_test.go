package failure_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Any chain, also one that another program has written, gets a decision whose parts agree.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{5, 0, 0, 5, 1, 0}, uint8(3), false, false)
	f.Add([]byte{7, 0, 0, 7, 1, 0, 7, 1, 0}, uint8(0), true, true)
	f.Fuzz(func(t *testing.T, body []byte, most uint8, none, better bool) {
		kinds := append(failure.Kinds(), "mood")
		var attempts []failure.Attempt
		for ; len(body) >= 3; body = body[3:] {
			attempts = append(attempts, failure.Attempt{
				Host: string('a' + rune(body[1]%4)), Kind: kinds[int(body[0])%len(kinds)], Message: string(rune(body[1] % 3)), Proven: body[1]&64 != 0,
				Node: string('0' + rune(body[2]%2)), Progress: float64(body[2]&12) / 10, NodeRan: time.Duration(body[2]>>4) * time.Second,
			})
		}
		d := failure.Decide(attempts, failure.Policy{MaxAttempts: int(most)}, failure.Evidence{Back: []string{"a"}, None: none, Better: better})
		if d.Dead != (d.Reason != "") || d.Message != "" && !d.Dead {
			t.Errorf("%+v contradicts itself", d)
		}
		if len(attempts) == 0 {
			return
		}
		last := attempts[len(attempts)-1]
		if last.Proven && d.Dead && last.Kind.Verdict().Next != failure.End {
			t.Errorf("dead by the host's fault: %+v of %+v", d, attempts)
		}
		if d.Reason == failure.TakesHostsDown && !last.Lost() || d.Guilt != nil && d.Reason != failure.TakesHostsDown {
			t.Errorf("%+v of %+v", d, attempts)
		}
	})
}
