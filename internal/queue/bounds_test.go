package queue_test

import (
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// repeated is a JSON list of n equal texts.
func repeated(n int, text string) string {
	return `["` + strings.Repeat(text+`","`, n-1) + text + `"]`
}

// Each bound is far beyond what a fleet has. What is at it is taken, and what is beyond it is not.
func TestValuesAreTakenUpToTheirBounds(t *testing.T) {
	t.Parallel()
	state := func(more string) error {
		_, err := queue.HostStateOf(put("x", `{"host":"x","instance":"i","serial":1,"state":"online"`+more+`}`))
		return err
	}
	running := func(more string) error {
		return state(`,"running":[{"tenant":"a","job":"b","priority":5,"hash":"` + aHash + `"` + more + `}]`)
	}
	ended := func(more string) error {
		return state(`,"ended":{"tenant":"a","job":"b","priority":5,"hash":"` + aHash + `","success":true` + more + `}`)
	}
	ticket := func(more string) error {
		_, err := queue.TicketOf(put("5.acme."+aHash+".7", `{"job":"a","lease":"`+aLease+`","attempt":1`+more+`}`))
		return err
	}
	block := func(more string) error {
		_, err := queue.BlockOf(put("gpu."+aHash, `{"kind":"timeout","tenants":["*"],"until":"2026-01-01T00:00:00Z"`+more+`}`))
		return err
	}
	tenant := func(more string) error {
		_, err := queue.TenantOf(put("acme", `{"weight":2`+more+`}`))
		return err
	}
	rule := func(more string) error { _, err := queue.AffinityOf(put(aHash, `{"x":0`+more+`}`)); return err }
	condition := func(more string) error {
		_, err := queue.DecodeCondition([]byte(`{"drained":true` + more + `}`))
		return err
	}
	const last, none = `"2299-12-31T23:59:59Z"`, `"2300-01-01T00:00:00Z"`
	const first, before = `"1970-01-01T00:00:00Z"`, `"1969-12-31T23:59:59Z"`
	for name, c := range map[string]struct {
		read        func(string) error
		most, wrong string
	}{
		"slots": {state, `,"slots":65536`, `,"slots":65537`}, "prefetch": {state, `,"prefetch":65536`, `,"prefetch":65537`},
		"foreign": {state, `,"foreign":1048576`, `,"foreign":1048577`}, "labels": {state, `,"labels":` + repeated(4096, "a=b"), `,"labels":` + repeated(4097, "a=b")},
		"recent": {state, `,"recent":` + repeated(4096, aHash), `,"recent":` + repeated(4097, aHash)}, "no hash": {state, `,"recent":[""]`, `,"recent":["x"]`},
		"memory": {state, `,"memory":1125899906842624`, `,"memory":-1`}, "used": {state, `,"memory":7,"memory_used":7`, `,"memory":7,"memory_used":8`},
		"not used": {state, `,"memory":7,"memory_used":0`, `,"memory":7,"memory_used":-1`}, "time": {state, `,"time":` + last, `,"time":` + none},
		"early time": {state, `,"time":` + first, `,"time":` + before}, "since": {running, `,"since":` + last, `,"since":` + none},
		"attempt": {running, `,"attempt":1048576`, `,"attempt":1048577`}, "blame": {state, `,"blame":{"tenant":"a","job":"b","hash":""}`, `,"blame":{"tenant":"a","job":"","hash":""}`},
		"size": {ended, `,"size":9223372036854775807`, `,"size":-1`}, "ran for": {ended, `,"ran_for":"876000h"`, `,"ran_for":"876000h1s"`},
		"hosts of a ticket":  {ticket, `,"only_hosts":` + repeated(4096, "a"), `,"only_hosts":` + repeated(4097, "a")},
		"time of a ticket":   {ticket, `,"expires":` + last, `,"expires":` + none},
		"tenants of a block": {block, `,"tenants":` + repeated(4096, "a"), `,"tenants":` + repeated(4097, "a")},
		"failures":           {block, `,"failures":1048576`, `,"failures":1048577`}, "level": {block, `,"level":1048576`, `,"level":1048577`},
		"until": {block, `,"until":` + last, `,"until":` + none}, "weight": {tenant, `,"weight":1048576`, `,"weight":1048577`},
		"max_running": {tenant, `,"max_running":2147483647`, `,"max_running":2147483648`}, "max_unfinished": {tenant, `,"max_unfinished":2147483647`, `,"max_unfinished":2147483648`},
		"prefer": {rule, `,"prefer":` + repeated(4096, "a"), `,"prefer":` + repeated(4097, "a")}, "exclude": {rule, `,"exclude":` + repeated(4096, "a"), `,"exclude":` + repeated(4097, "a")},
		"hashes": {condition, `,"hashes":` + repeated(4096, aHash), `,"hashes":` + repeated(4097, aHash)}, "prompts": {condition, `,"prompts":` + repeated(4096, "a"), `,"prompts":` + repeated(4097, "a")},
		"time of a condition": {condition, `,"time":` + last, `,"time":` + none},
		"texts":               {condition, `,"reason":"` + strings.Repeat("x", 1<<20) + `"`, `,"reason":"` + strings.Repeat("x", 1<<20) + `","process":"y"`},
	} {
		if err := c.read(c.most); err != nil {
			t.Errorf("%s: what is at the bound: %v", name, err)
		}
		if c.read(c.wrong) == nil {
			t.Errorf("%s: what is beyond the bound is taken", name)
		}
	}
}

func TestAnAgentMayAnswerWithoutAState(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"accepted": true, "unfit": true, "busy": false, "drain": false, "not_there": false} {
		if _, err := queue.DecodeReply([]byte(`{"answer":"` + answer + `"}`)); (err == nil) != want {
			t.Errorf("%s: %v", answer, err)
		}
	}
	if _, err := queue.DecodeReply([]byte(`{"answer":"accepted","state":{"host":"gpu","state":"merry"}}`)); err == nil {
		t.Error("a state that cannot be is taken")
	}
}
