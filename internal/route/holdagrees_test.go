package route_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// plainHold is the slow and plain reading of why a job waits: from what is said of each host. Its text is left out.
func (w *world) plainHold(j route.Want, verdicts []route.HostVerdict, now time.Time) (hold route.Hold) {
	if w.down(j.Tenant) > 1 {
		return route.Hold{Reason: route.HostsDown}
	}
	if w.withheld[[2]string{string(j.Tenant), string(j.Hash)}] {
		return route.Hold{}
	}
	right, capable, blocked, others, avoided := 0, 0, 0, 0, 0
	for _, v := range verdicts {
		h, present := w.hosts[v.Host]
		b, struck := w.blocks[[2]string{string(v.Host), string(j.Hash)}]
		able := w.capable(v.Host, j.Hash) && (!struck || b.Kind != failure.Incapable)
		switch {
		case !present:
			continue
		case v.Code == route.CodeOthers:
			if able && h.State == route.Online {
				others++
			}
			continue
		case h.State != route.Online:
			if able {
				hold.Away++
			}
			continue
		}
		hold.Online = true
		if able {
			capable++
		}
		if able && v.Code == route.CodeBlocked {
			blocked++
			if hold.Until.IsZero() || v.Until.Before(hold.Until) {
				hold.Until = v.Until
			}
		}
		if v.Code == route.CodeAvoid {
			avoided++
		}
		if w.right(v.Host, j) && (!w.stands(v.Host, j.Avoid) || !now.Before(j.AvoidUntil)) {
			right++
		}
	}
	full := w.caps[j.Tenant] > 0 && w.running(func(r route.Run) bool { return r.Tenant == j.Tenant }) >= w.caps[j.Tenant]
	switch {
	case right > 0 && full:
		return route.Hold{Reason: route.OverCap}
	case right > 0:
		return route.Hold{}
	case capable == 0 && hold.Away == 0 && others > 0:
		hold.Reason = route.OthersHosts
	case capable == 0:
		hold.Reason = route.NoneCapable
	case avoided > 0:
		hold.Reason, hold.Until = route.NotDue, j.AvoidUntil
	case blocked > 0:
		hold.Reason = route.AllBlocked
	default:
		hold.Reason = route.Excluded
	}
	return hold
}

func TestHoldAgreesWithWhatIsSaidOfEachHost(t *testing.T) {
	t.Parallel()
	kinds := kinds()
	seen := map[route.HoldReason]int{}
	for seed := range uint64(10) {
		s := newStory(t, seed, kinds)
		for step := range 250 {
			s.step()
			if s.IntN(4) == 0 {
				s.grant()
			}
			w := s.want()
			verdicts := s.fleet.Explain(w, noon)
			got, want := s.fleet.Hold(w, noon), s.world.plainHold(w, verdicts, noon)
			if seen[want.Reason]++; got.Reason == "" || got.Reason == route.OverCap || got.Reason == route.HostsDown {
				want.Away, want.Online, want.Until = 0, false, time.Time{}
			}
			got.Text = ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d step %d: Hold(%+v) (-want +got):\n%s%+v", seed, step, w, diff, verdicts)
			}
			s.compareOutlook(w, verdicts)
		}
	}
	for _, reason := range []route.HoldReason{"", route.NoneCapable, route.AllBlocked, route.Excluded, route.OverCap, route.NotDue, route.HostsDown, route.OthersHosts} {
		if seen[reason] == 0 {
			t.Errorf("no job waits for the reason %q", reason)
		}
	}
}

// compareOutlook compares what is said of all hosts together, and of some after the others, with what is said of each.
func (s *story) compareOutlook(w route.Want, verdicts []route.HostVerdict) {
	some := func(code route.Code) bool {
		return slices.ContainsFunc(verdicts, func(v route.HostVerdict) bool { return v.Code == code })
	}
	eligible, cold := s.fleet.Outlook(w, noon)
	if eligible != some(route.Eligible) || cold != some(route.CodeCold) {
		s.t.Fatalf("Outlook(%+v) is %t, %t; of each host it is said %+v", w, eligible, cold, verdicts)
	}
	pages := []route.HostVerdict{}
	for after := route.HostID(""); ; after = pages[len(pages)-1].Host {
		page := s.fleet.ExplainSome(w, after, 2, noon)
		if pages = append(pages, page...); len(page) < 2 {
			break
		}
	}
	if diff := cmp.Diff(verdicts, pages); diff != "" {
		s.t.Fatalf("in pages (-at once +in pages):\n%s", diff)
	}
}

// TestHoldNamesTheFirstHosts has more hosts lack something than the text names.
func TestHoldNamesTheFirstHosts(t *testing.T) {
	t.Parallel()
	f := fleet(online("e"), online("b"), online("d"), online("a"), online("c"))
	f.PutRequirements(hashOf(1), needs(1))
	for _, id := range []route.HostID{"a", "b", "c", "d", "e"} {
		f.PutCapability(id, kindOf(1))
	}
	lacks := "missing model model-1.safetensors in Loader.ckpt"
	text := "no host that is online can run it: a: " + lacks + "; b: " + lacks + "; c: " + lacks + "; and 2 more"
	if got := f.Hold(want(1), noon); got.Text != text {
		t.Errorf("%q", got.Text)
	}
}

// BenchmarkHold asks for jobs that no host can run, and for jobs that are blocked on all.
func BenchmarkHold(b *testing.B) {
	for _, hosts := range []int{1000, 10_000} {
		f := benchFleet(hosts, 0, true)
		f.PutRequirements(hashOf(9001), needs(0, 1, 2, 3, 4, 5, 6, 7))
		for i := range hosts {
			f.PutBlock(block(hostName(i), 9002))
		}
		for name, n := range map[string]int{"no host can run it": 9001, "blocked on all": 9002} {
			w := route.Want{Hash: hashOf(n), Tenant: tenant(1)}
			b.Run(fmt.Sprintf("hosts=%d/%s", hosts, name), func(b *testing.B) {
				for b.Loop() {
					if hold := f.Hold(w, noon); hold.Reason == "" {
						b.Fatal("a host may take it")
					}
				}
			})
		}
	}
}
