package lease_test

import (
	"testing"

	"example.com/house/lease"
)

func TestALeaseExpiresUnlessItIsHeld(t *testing.T) {
	if lease.Expired(5, 4, true) || !lease.Expired(5, 4, false) || lease.Expired(3, 4, false) {
		t.Fail()
	}
}
