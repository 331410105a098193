package gateway_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

func TestWhatAHostMayRunIsNotAskedAgainForAMoment(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name   string
		answer gateway.Answered
		want   bool
	}{
		{"the same workflow at once", gateway.Answered{Tenant: "acme", Hash: "h", Later: time.Second}, true},
		{"of another tenant", gateway.Answered{Tenant: "bolt", Hash: "h"}, false},
		{"another workflow", gateway.Answered{Tenant: "acme", Hash: "i"}, false},
		{"later", gateway.Answered{Tenant: "acme", Hash: "h", Later: 5 * time.Second}, false},
		{"after a host has changed", gateway.Answered{Tenant: "acme", Hash: "h", ChangedAfter: true}, false},
		{"when a host changed during the question", gateway.Answered{Tenant: "acme", Hash: "h", ChangedBefore: true}, false},
	} {
		if got := gateway.KnownRunnable("acme", "h", c.answer, now); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
