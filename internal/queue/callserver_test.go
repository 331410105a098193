package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestCallsAreLimitedForEachTenantAndForAllTogether(t *testing.T) {
	t.Parallel()
	d := queue.NewCallServer()
	expect := func(whose string, most int, taken bool) {
		t.Helper()
		err := d.Begin(whose, most)
		if _, tooMany := errors.AsType[*jetstream.TooMany](err); taken != (err == nil) || tooMany == taken {
			t.Errorf("a call of %q: %v", whose, err)
		}
	}
	expect("acme", 2, true)
	expect("acme", 2, true)
	expect("acme", 2, false)
	expect("bolt", 2, true)
	d.End("acme")
	expect("acme", 2, true)
	for n := range 4096 - 3 {
		expect(fmt.Sprint("tenant-", n), 2, true)
	}
	expect("coral", 2, false)
	d.End("bolt")
	expect("coral", 2, true)
	expect("coral", 2, false)
}
