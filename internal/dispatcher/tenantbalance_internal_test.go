package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// balanceScene is a balance that counts deliveries of tenants.
type balanceScene struct {
	balance
	tenants map[job.Tenant]*tenantWork
}

func newBalanceScene() *balanceScene { return &balanceScene{tenants: map[job.Tenant]*tenantWork{}} }

// comes counts deliveries of a tenant in, and says what the last one was told.
func (s *balanceScene) comes(tenant job.Tenant, deliveries, size int, at time.Duration) (even bool) {
	if s.tenants[tenant] == nil {
		s.tenants[tenant] = &tenantWork{}
	}
	for range deliveries {
		even = s.count(s.tenants[tenant], size, s.tenants, noonUTC.Add(at))
	}
	return even
}

func TestAWindowOfDeliveriesEndsAfterAQuarterOfASecond(t *testing.T) {
	t.Parallel()
	s := newBalanceScene()
	s.comes("acme", 20, 0, 0)
	same(t, "before", s.comes("bolt", 20, 0, 250*time.Millisecond-1), false)
	same(t, "then", s.comes("bolt", 1, 0, 250*time.Millisecond), true)
	same(t, "in the next one", s.comes("acme", 100, 0, 499*time.Millisecond), true)
	same(t, "at its end, when only one tenant's have come", s.comes("acme", 1, 0, 500*time.Millisecond), false)
}

func TestAWindowOfDeliveriesEndsWithTheHundredAndTwentyEighth(t *testing.T) {
	t.Parallel()
	s := newBalanceScene()
	s.comes("acme", 64, 0, 0)
	same(t, "before", s.comes("bolt", 63, 0, 0), false)
	same(t, "then", s.comes("bolt", 1, 0, 0), true)
}

func TestFewDeliveriesShowNoBalance(t *testing.T) {
	t.Parallel()
	for deliveries, want := range map[int]bool{31: false, 32: true} {
		s := newBalanceScene()
		s.comes("acme", 16, 0, 0)
		same(t, "of a window", s.comes("bolt", deliveries-16, 0, time.Second), false)
		s = newBalanceScene()
		s.comes("acme", 16, 0, 0)
		s.comes("bolt", deliveries-17, 0, time.Millisecond)
		same(t, "at its end", s.comes("bolt", 1, 0, time.Second), want)
	}
}

func TestEachWindowOfDeliveriesIsJudgedByItself(t *testing.T) {
	t.Parallel()
	s := newBalanceScene()
	s.comes("acme", 31, 0, 0)
	s.comes("bolt", 1, 0, 250*time.Millisecond)
	same(t, "the first one", s.even, false)
	s.comes("acme", 30, 0, 300*time.Millisecond)
	same(t, "one of which a tenant has a sixth", s.comes("bolt", 6, 0, 500*time.Millisecond), false)
	same(t, "counts afterwards", []int{s.came, s.work, s.tenants["acme"].work}, []int{5, 5, 0})
}

func TestADeliveryWeighsMoreForEachEightKilobytes(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{0: 1, 8<<10 - 1: 1, 8 << 10: 2, 40 << 10: 6} {
		s := newBalanceScene()
		s.comes("acme", 1, size, 0)
		same(t, "weight", []int{s.work, s.tenants["acme"].work}, []int{want, want})
	}
}
