package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestATenantCancelsAThousandIDsThatNobodyHasSeenAndNoMore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for i := range 999 {
			id := job.ID(fmt.Sprintf("invented-%d", i))
			if _, _, err := s.End(t.Context(), "acme", id, queue.Cancelling{By: "tenant acme", Force: true}); err != nil {
				t.Fatal(err)
			}
		}
		s.dispatcher(dispatcher.Config{})
		s.submitTo("acme", 5, "real", "other")
		s.pass(time.Second)
		s.cuts(map[string]error{"pull": errCut}) // what comes now stays in the stream
		s.submitTo("acme", 5, "unpulled")
		force := func(tenant job.Tenant, id job.ID) (jetstream.CancelAnswer, error) {
			return callAs[jetstream.CancelAnswer](s.memory, tenant, "cancel", jetstream.CancelRequest{Job: id, Force: true})
		}
		for _, id := range []job.ID{"real", "last-one"} {
			if a, err := force("acme", id); err != nil || a.Count != 1 {
				t.Errorf("%s: %+v, %v", id, a, err)
			}
		}
		s.want("the end of one that was there", s.story("real"), "queued waiting:none_capable cancelled")
		_, err := force("acme", "one-too-many")
		refused[*jetstream.TooMany](s, err)
		if err == nil || !strings.Contains(err.Error(), "tenant acme has cancelled 1000 such jobs beforehand, which is the most") {
			t.Errorf("it says %v", err)
		}
		s.want("its chain", s.story("one-too-many"), "")
		for _, id := range []job.ID{"last-one", "other"} { // has ended, and is there
			if _, err := force("acme", id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		s.want("all that waits", s.cancels(jetstream.CancelRequest{All: true}), []int{1})
		if _, err := force("bolt", "invented-1"); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		if a := operator[jetstream.CancelAnswer](s, "cancel", jetstream.CancelRequest{Tenant: "acme", Job: "by-an-operator", Force: true}); a.Count != 1 {
			t.Errorf("an operator: %+v", a)
		}
	})
}
