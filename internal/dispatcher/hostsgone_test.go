package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// hostEvent stores an event of a host.
func (s *scene) hostEvent(host string, kind queue.HostEventKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, queue.Link{Event: job.Event{Host: host, Reason: string(kind), Time: s.Now()}, ChainSequence: uint64(len(s.events) + 1)})
}

func TestHostsThatHaveGoneAreListedWithThoseThatAreThere(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.off = time.Since(noon) // the times of events count from noon
		s.dispatcher(dispatcher.Config{})
		for _, host := range []string{"b", "d"} {
			s.host(host, s.accepts(host))
		}
		for _, host := range []string{"a", "b", "c", "e"} {
			s.hostEvent(host, queue.HostOffline)
		}
		s.hostEvent("c", queue.HostOnline)
		s.pass(time.Second)
		list := func(r queue.HostsRequest) string {
			a := operator[queue.HostsAnswer](s, "hosts", r)
			var text []string
			for i := range a.Hosts {
				text = append(text, a.Hosts[i].Host+" "+string(a.Hosts[i].State))
			}
			return strings.Join(append(text, "next "+a.Next), ", ")
		}
		s.want("all", list(queue.HostsRequest{Offline: true}), "a offline, b online, d online, e offline, next ")
		s.want("a page", list(queue.HostsRequest{Offline: true, Limit: 2}), "a offline, b online, next b")
		s.want("the next page", list(queue.HostsRequest{Offline: true, After: "b"}), "d online, e offline, next ")
		s.want("those that are there", list(queue.HostsRequest{}), "b online, d online, next ")
		s.want("one that is there", list(queue.HostsRequest{Host: "b", Offline: true}), "b online, next ")
		s.want("one that has gone", list(queue.HostsRequest{Host: "e", Offline: true}), "e offline, next ")
		s.want("when only those are asked for that are there", list(queue.HostsRequest{Host: "e"}), "next ")
	})
}

func TestHostsThatWentWhileNoDispatcherWasThereAreAnnounced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.seen = map[string]queue.HostEventKind{"here": queue.HostOnline, "gone": queue.HostOnline, "sick": queue.HostUnhealthy, "long-gone": queue.HostOffline}
		s.host("here", s.accepts("here"))
		kill := s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		announced := map[string]bool{}
		for _, effect := range s.done("announce") {
			announced[effect] = true
		}
		if len(announced) != 2 || !announced["announce gone offline"] || !announced["announce sick offline"] {
			t.Errorf("announced are %v", announced)
		}
		kill()
		s.seen = map[string]queue.HostEventKind{"other": queue.HostOnline, "third": queue.HostOnline}
		s.cuts(map[string]error{"look for host other": errCut})
		s.dispatcher(dispatcher.Config{Name: "next"})
		s.pass(time.Second)
		s.want("when one cannot be looked for", s.done("announce other", "announce third"), []string{"announce third offline"})
	})
}
