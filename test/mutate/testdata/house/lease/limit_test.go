package lease_test

import (
	"testing"

	"example.com/house/lease"
)

func TestALeaseHoldsUpToItsLimit(t *testing.T) {
	if lease.Expired(4, 4, false) {
		t.Fail()
	}
}
