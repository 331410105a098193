package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// A block without an end is one whose end is not known.
func TestAJobThatIsBlockedEverywhereWaitsForTheFirstBlockToEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends []int // of the blocks on a, b and c, in seconds; 0 = not known
		want int
	}{
		"First":    {[]int{30, 60, 90}, 30},
		"Second":   {[]int{60, 30, 90}, 30},
		"Last":     {[]int{90, 60, 30}, 30},
		"Unknown":  {[]int{60, 0, 90}, 60},
		"NoneOfIt": {[]int{0, 0, 0}, 0},
	} {
		f := fleet(online("a"), online("b"), online("c"))
		for i, end := range c.ends {
			b := block(string(rune('a'+i)), 1)
			b.Until = time.Time{}
			if end > 0 {
				b.Until = noon.Add(seconds(float64(end)))
			}
			f.PutBlock(b)
		}
		var want time.Time
		if c.want > 0 {
			want = noon.Add(seconds(float64(c.want)))
		}
		if hold := f.Hold(route.Want{Hash: hashOf(1), Tenant: "acme"}, noon); hold.Reason != route.AllBlocked || !hold.Until.Equal(want) {
			t.Errorf("%s: it waits for %s until %s, want %s", name, hold.Reason, hold.Until, want)
		}
	}
}

func TestACapOfOneIsKeptElsewhereToo(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	for most, elsewhere := range map[int]bool{0: false, 1: true, 2: true} {
		f.PutTenant("acme", 1, most)
		f.PutSlots("acme", 0, true)
		if got := f.Elsewhere("acme"); got != elsewhere || (chosen(f, want(1)) == "a") == elsewhere {
			t.Errorf("with a cap of %d: kept elsewhere %t, chosen %s", most, got, chosen(f, want(1)))
		}
	}
}
