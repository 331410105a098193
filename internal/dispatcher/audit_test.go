package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestDeadLettersAreDeletedByConditionAndUpToASequence(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.bury("acme", "a1", "a2", "a3")
		s.bury("bolt", "b1")
		s.dispatcher(dispatcher.Config{})
		for _, request := range []string{`{}`, `{"limit":1}`, `{"up_to":3}`, `{"by":"me"}`} {
			_, err := call[queue.PurgeAnswer](s.memory, "purge", json.RawMessage(request))
			refused[*jetstream.BadRequest](s, err)
		}
		none := operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", Kind: "timeout", By: "ops"})
		page := operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", UpTo: 2, Limit: 1, By: "ops"})
		rest := operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", UpTo: 2, After: page.Next, By: "ops"})
		s.want("deleted and next", fmt.Sprint(none, page, rest), "{0 0} {1 1} {1 0}")
		s.want("letters", s.done("purge"), []string{"purge letter 1", "purge letter 2"})
		left := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{})
		s.want("dead", fmt.Sprint(len(left.Dead), left.Dead[0].Job, left.Dead[1].Job), "2a3b1")
		s.want("up to", len(operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{UpTo: 3}).Dead), 1)
		s.want("requeued up to", operator[jetstream.RequeueAnswer](s, "requeue", jetstream.RequeueRequest{All: true, UpTo: 3}).Count, 1)
		s.want("all", operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{All: true}).Count, 2)
		s.want("acts", s.whoActed(), []string{
			`purge by ops for "acme" begins: {"tenant":"acme","up_to":2,"limit":1}`,
			`purge by ops for "acme": 1 of {"tenant":"acme","up_to":2,"limit":1}`,
			`purge by ops for "acme" begins: {"tenant":"acme","after":1,"up_to":2}`,
			`purge by ops for "acme": 1 of {"tenant":"acme","after":1,"up_to":2}`,
			`requeue by api for "" begins: {"all":true,"up_to":3}`,
			`requeue by api for "": 1 of {"all":true,"up_to":3}`,
			`purge by api for "" begins: {"all":true}`,
			`purge by api for "": 2 of {"all":true}`,
		})
	})
}

// The caller of a call gives its name itself, so an operator could give the name of a tenant.
func TestOnlyATenantsOwnCallIsRecordedAsATenants(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.bury("acme", "a1", "a2", "a3")
		s.dispatcher(dispatcher.Config{})
		operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", UpTo: 1, By: " \x00tenant acme: ann"})
		operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", UpTo: 2, By: "TENANT acme"})
		operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Tenant: "acme", UpTo: 3, By: "ten"})
		answered[jetstream.CancelAnswer](s, "acme", "cancel", jetstream.CancelRequest{Job: "b", By: "ann", Force: true})
		var who []string
		for _, act := range s.whoActed() {
			if !strings.Contains(act, " begins: ") {
				by, _, _ := strings.Cut(act, ` for "acme"`)
				who = append(who, by)
			}
		}
		s.want("who", who, []string{
			"purge by operator: tenant acme: ann", "purge by operator: TENANT acme", "purge by ten", "cancel by tenant acme: ann",
		})
	})
}

// A dispatcher that dies in the middle of a long act has stored before who asked for it.
func TestAnActOfManyIsToldBeforeItsFirstChange(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.bury("acme", "dead")
		s.dispatcher(dispatcher.Config{})
		s.submitTo("acme", 5, "a")
		s.pass(time.Second)
		answered[jetstream.CancelAnswer](s, "acme", "cancel", jetstream.CancelRequest{All: true})
		answered[jetstream.CancelAnswer](s, "acme", "cancel", jetstream.CancelRequest{All: true}) // nothing is left
		answered[jetstream.RequeueAnswer](s, "acme", "requeue", jetstream.RequeueRequest{All: true})
		answered[jetstream.RequeueAnswer](s, "acme", "requeue", jetstream.RequeueRequest{All: true}) // requeued before
		operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{All: true})
		operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{All: true}) // nothing is left
		s.want("order", s.done("begin act", "act", "append cancelled", "requeue", "purge"), []string{
			"begin act cancel by tenant acme: 0", "append cancelled a of 0", "act cancel by tenant acme: 1",
			"begin act requeue by tenant acme: 0", "requeue dead", "act requeue by tenant acme: 1",
			"begin act purge by api: 0", "purge letter 1", "act purge by api: 1",
		})
	})
}

func TestAnActOfManyThatCannotBeToldChangesNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.bury("acme", "dead")
		s.dispatcher(dispatcher.Config{})
		s.submitTo("acme", 5, "a")
		s.pass(time.Second)
		s.cuts(map[string]error{"begin act cancel": errCut, "begin act requeue": errCut, "begin act purge": errCut})
		_, cancelled := callAs[jetstream.CancelAnswer](s.memory, "acme", "cancel", jetstream.CancelRequest{All: true})
		_, requeued := callAs[jetstream.RequeueAnswer](s.memory, "acme", "requeue", jetstream.RequeueRequest{All: true})
		_, purged := call[queue.PurgeAnswer](s.memory, "purge", queue.PurgeRequest{All: true})
		for _, err := range []error{cancelled, requeued, purged} {
			if err == nil || !strings.Contains(err.Error(), "nothing was changed, since it could not be stored who asks for it") {
				t.Errorf("it says %v", err)
			}
		}
		s.want("the job", s.story("a"), "queued waiting:none_capable")
		s.want("letters", append(s.done("requeue"), s.done("purge")...), []string(nil))
	})
}

func TestADrainIsAnsweredWithWhatTheAgentSays(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for request, want := range map[queue.DrainRequest]string{
			{Host: "gpu-1"}:               "1 accepted gpu-1 draining: ",
			{Host: "sick", Resume: true}:  "1 accepted sick unhealthy: it is not drained any more, but takes no jobs: its disk is full",
			{Host: "odd", Resume: true}:   "0 unfit odd online: a control asks for either drain or resume",
			{Host: "gpu-1", Resume: true}: "1 accepted gpu-1 online: ",
		} {
			a := operator[queue.DrainAnswer](s, "drain", request)
			s.want("answer", fmt.Sprintf("%d %s %s %s: %s", a.Count, a.Reply.Answer, a.Reply.State.Host, a.Reply.State.State, a.Reply.Reason), want)
		}
		s.want("acts", len(s.whoActed()), 3) // the control that its agent refused has changed nothing, and is not stored
	})
}
