package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// submitAs publishes a job of a tenant and gives its sequence.
func (s *scene) submitAs(tenant string, p job.Priority, id job.ID, edit ...func(*job.Spec)) uint64 {
	s.t.Helper()
	spec := job.Spec{ID: id, Workflow: graph(1)}
	for _, change := range edit {
		change(&spec)
	}
	body, err := json.Marshal(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.publish(job.Message{Tenant: tenant, Priority: p, Body: body})
}

// ticketsOf are the jobs of a tenant that have a ticket, by sequence.
func (s *scene) ticketsOf(tenant job.Tenant) []string {
	tickets := slices.DeleteFunc(s.tickets(), func(t queue.Ticket) bool { return t.Tenant != tenant })
	slices.SortFunc(tickets, func(a, b queue.Ticket) int { return int(a.Sequence) - int(b.Sequence) })
	ids := []string{}
	for _, t := range tickets {
		ids = append(ids, string(t.Job))
	}
	return ids
}

func later(due time.Time) func(*job.Spec) { return func(spec *job.Spec) { spec.RunAt = &due } }

func only(host string) func(*job.Spec) {
	return func(spec *job.Spec) { spec.OnlyHosts = []string{host} }
}

// A tenant fills ten lanes with 200 jobs each that are to run in years. With a waiting cap of 1000, jobs of other tenants must still
// be taken in.
func TestAFloodOfJobsThatRunLaterKeepsNobodyElsesWaiting(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 1000})
		due := s.Now().Add(4 * 365 * 24 * time.Hour)
		for n := range 200 {
			for p := job.Priority(0); p.Valid(); p++ {
				s.submitAs("bolt", p, job.ID(fmt.Sprintf("b-%d-%d", p, n)), later(due))
			}
		}
		s.pass(20 * time.Second)
		if n := len(s.ticketsOf("bolt")); n < 500 || n > 950 {
			t.Errorf("bolt has %d tickets of jobs that run later, want half of what its part of 1000 to 1900 is", n)
		}
		s.host("a", s.accepts("a"))
		s.host("b", s.accepts("b"))
		s.submitAs("acme", 5, "usual")
		s.pass(100 * time.Millisecond)
		s.want("chain at priority 5", s.story("usual"), "queued started")
		s.submitAs("acme", 0, "lowest")
		s.pass(100 * time.Millisecond)
		s.want("chain at priority 0", s.story("lowest"), "queued started")
		s.want("jobs of bolt in the stream", s.left(), 2002)
	})
}

func TestWhoHasFewerTicketsThanItsPartGetsThemWhateverAnotherHas(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 100})
		for n := range 300 {
			s.submitAs("bolt", 0, job.ID(fmt.Sprint("b", n)))
		}
		s.pass(5 * time.Second)
		s.want("tickets of bolt", len(s.ticketsOf("bolt")), 100)
		for n := range 80 {
			s.submitAs("acme", 0, job.ID(fmt.Sprint("a", n)))
		}
		s.pass(5 * time.Second)
		tickets := s.ticketsOf("acme")
		s.want("tickets of acme, which has half", len(tickets), 50)
		for n := range 80 {
			id, want := fmt.Sprint("a", n), "queued"
			if slices.Contains(tickets, id) {
				want = "queued waiting:none_capable"
			}
			s.want("chain of "+id, s.story(job.ID(id)), want)
		}
	})
}

func TestRestingJobsAreCalledInTheirOrderWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 10})
		for n := range 25 {
			s.submitAs("acme", 0, job.ID(fmt.Sprintf("a%02d", n)))
			s.pass(10 * time.Millisecond) // jobs that come at one moment are taken in as they come
		}
		s.pass(5 * time.Second)
		s.want("tickets", strings.Join(s.ticketsOf("acme"), " "), "a00 a01 a02 a03 a04 a05 a06 a07 a08 a09")
		s.want("deliveries", len(s.done("deliver")), 25)
		for n := range 5 {
			s.goOn(job.ID(fmt.Sprintf("a%02d", n)), job.Cancelled)
		}
		s.pass(time.Second)
		s.want("tickets when five have gone", strings.Join(s.ticketsOf("acme"), " "), "a05 a06 a07 a08 a09 a10 a11 a12 a13 a14")
		s.want("chain of one that was called", s.story("a10"), "queued waiting:none_capable")
		s.submitAs("acme", 0, "newest")
		s.pass(10 * time.Millisecond) // as above
		s.goOn("a05", job.Cancelled)
		s.pass(time.Second)
		s.want("tickets behind a new job", strings.Join(s.ticketsOf("acme"), " "), "a06 a07 a08 a09 a10 a11 a12 a13 a14 a15")
		for n := range 25 { // one of five that are called at one moment may be called once more
			called := len(s.done(fmt.Sprintf("deliver $JS.ACK.COMFY_JOBS.dispatch_5.2.%d.", n+1)))
			s.want(fmt.Sprintf("a%02d was called", n), called, map[bool]int{true: 1}[n >= 10 && n <= 15])
		}
	})
}

// The jobs that have the tickets are for a host that is away; one of those that rest can run.
func TestARestingJobRunsOnASlotThatNoTicketCanUse(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 10})
		for n := range 200 {
			s.submitAs("acme", 0, job.ID(fmt.Sprint("a", n)), only("away"))
		}
		s.pass(5 * time.Second)
		s.submitAs("acme", 0, "runs")
		s.pass(5 * time.Second)
		s.want("chain while no host is there", s.story("runs"), "queued")
		s.host("here", s.accepts("here"))
		s.pass(20 * time.Second)
		s.want("chain", s.story("runs"), "queued started")
	})
}

func TestARestingJobIsBackWhenItIsDueAndWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 1})
		s.submitAs("acme", 0, "first", only("away"))
		s.pass(time.Second)
		s.submitAs("acme", 0, "due", later(s.Now().Add(time.Minute)))
		s.submitAs("acme", 0, "late", only("away"), func(spec *job.Spec) { spec.ExpiresIn = job.Duration(2 * time.Minute) })
		s.pass(time.Second)
		s.want("tickets", s.ticketsOf("acme"), []string{"first"})
		s.host("here", s.accepts("here"))
		s.pass(50 * time.Second)
		s.want("chain before", s.story("due"), "queued")
		s.pass(10 * time.Second)
		s.want("chain when it is due", s.story("due"), "queued started")
		s.pass(time.Minute)
		s.want("chain when its time is over", s.story("late"), "queued dead:expired")
	})
}

func TestACancelledJobThatRestsIsAckedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 1})
		s.submitAs("acme", 0, "first")
		s.pass(time.Second)
		s.submitAs("acme", 0, "rests")
		s.pass(time.Second)
		s.goOn("rests", job.Cancelled)
		s.pass(0)
		s.want("jobs", s.left(), 1)
		answer, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "acme", Job: "first"})
		if err != nil || answer.Reason != "none_capable" {
			t.Errorf("why: %+v, %v", answer, err)
		}
	})
}

func TestWhyTellsThatAJobRests(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 1})
		s.submitAs("acme", 0, "first")
		s.pass(time.Second)
		s.submitAs("acme", 0, "rests")
		s.pass(time.Second)
		answer, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "acme", Job: "rests"})
		if err != nil {
			t.Fatal(err)
		}
		want := "it rests in the stream: tenant acme has 1 jobs in the waiting room, as many as it may now, and this one follows when there is room"
		s.want("text", strings.Contains(answer.Text, want), true)
	})
}

// A resting job does not depend on a dispatcher that remembers it: it is delivered again, to any dispatcher.
func TestJobsThatADeadDispatcherLetRestComeBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{WaitingCap: 2})
		for n := range 5 {
			s.submitAs("acme", 0, job.ID(fmt.Sprint("a", n)))
		}
		s.pass(time.Second)
		s.want("tickets", len(s.ticketsOf("acme")), 2)
		kill()
		s.dispatcher(dispatcher.Config{Name: "next", WaitingCap: 10})
		s.pass(time.Minute)
		s.want("tickets a minute later", len(s.ticketsOf("acme")), 2)
		s.pass(20 * time.Minute)
		s.want("tickets when their rest is over", len(s.ticketsOf("acme")), 5)
	})
}

func (s *scene) waitingCount() int {
	s.t.Helper()
	answer, err := call[jetstream.QueueAnswer](s.memory, "queue", struct{}{})
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, l := range answer.Lanes {
		n += l.Depth
	}
	return n
}

func TestAPurgeOfLanesAndOfTheWaitingRoomIsNoticed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other") // which is home of half of the jobs, and stands still
		s.dispatcher(dispatcher.Config{WaitingCap: 100})
		for n := range 300 {
			s.submitAs("acme", 0, job.ID(fmt.Sprint("a", n)))
		}
		s.pass(5 * time.Second)
		s.want("waiting", s.waitingCount(), 100)
		for n := range uint64(300) {
			s.remove(n + 1)
		}
		s.purgeTickets()
		s.pass(40 * time.Second)
		s.want("waiting after the purge", s.waitingCount(), 0)
		s.submitAs("acme", 0, "new")
		s.pass(time.Second)
		s.want("tickets", s.ticketsOf("acme"), []string{"new"})
	})
}

func TestAPurgeOfTheWaitingRoomAloneLeavesJobsToTheEndOfTheirRest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n := range 5 {
			s.submitAs("acme", 0, job.ID(fmt.Sprint("a", n)))
		}
		s.pass(5 * time.Second)
		s.purgeTickets()
		s.pass(20 * time.Second)
		s.want("waiting after the purge", s.waitingCount(), 0)
		s.pass(13 * time.Minute)
		s.want("tickets", s.ticketsOf("acme"), []string{"a0", "a1", "a2", "a3", "a4"})
	})
}

func TestATicketThatIsGoneWithoutAWordIsClaimedOnceOnly(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		s.purgeTickets()
		s.host("a", s.accepts("a"))
		s.pass(5 * time.Second)
		s.want("tries to claim", len(s.done("look for ticket")), 1)
		s.want("waiting", s.waitingCount(), 0)
	})
}
