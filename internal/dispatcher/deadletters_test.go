package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// buryAs stores a letter of acme with an event.
func (s *scene) buryAs(id job.ID, edit func(*job.Event)) {
	s.t.Helper()
	e := job.Event{EventKind: job.Dead, Job: id, Tenant: "acme", Priority: 5, Time: s.Now(), Reason: string(failure.Expired)}
	edit(&e)
	if _, err := s.Bury(context.Background(), &job.Message{Tenant: "acme", Body: graph(1)}, &e, 0); err != nil {
		s.t.Fatal(err)
	}
}

// Letters are worked on 64 at a time; most of these do not fit.
func TestAllDeadLettersThatFitAreFoundAmongMany(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		const n = 200
		for i := range n {
			s.buryAs(job.ID(fmt.Sprintf("job-%03d", i)), func(e *job.Event) {
				e.Kind, e.Hash = failure.Transient, hashOf(t, 1)
				if i%50 == 49 {
					e.Kind, e.Hash = failure.Timeout, hashOf(t, 2)
				}
			})
		}
		s.dispatcher(dispatcher.Config{})
		dead := func(r jetstream.DeadRequest) string {
			a := operator[jetstream.DeadAnswer](s, "dead", r)
			var ids []string
			for i := range a.Dead {
				ids = append(ids, string(a.Dead[i].Job))
			}
			return fmt.Sprint(strings.Join(ids, " "), " next ", a.Next)
		}
		all := "job-049 job-099 job-149 job-199 next 0"
		s.want("of a kind", dead(jetstream.DeadRequest{Kind: failure.Timeout}), all)
		s.want("of a hash", dead(jetstream.DeadRequest{Hash: hashOf(t, 2)[:8]}), all)
		s.want("the first two", dead(jetstream.DeadRequest{Kind: failure.Timeout, Limit: 2}), "job-049 job-099 next 100")
		s.want("behind them", dead(jetstream.DeadRequest{Kind: failure.Timeout, Limit: 2, After: 100}), "job-149 job-199 next 200")
		s.want("behind those", dead(jetstream.DeadRequest{Kind: failure.Timeout, After: 200}), " next 0")
		s.want("up to one", dead(jetstream.DeadRequest{Kind: failure.Timeout, UpTo: 150}), "job-049 job-099 job-149 next 0")
		s.want("of a job", dead(jetstream.DeadRequest{Job: "job-123"}), "job-123 next 0")
		s.want("of a reason", dead(jetstream.DeadRequest{Reason: failure.OverQuota, Kind: failure.Timeout}), " next 0")
		purged := operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Kind: failure.Transient, Limit: 100})
		rest := operator[queue.PurgeAnswer](s, "purge", queue.PurgeRequest{Kind: failure.Transient, After: purged.Next})
		s.want("deleted", fmt.Sprint(purged.Count, rest.Count, rest.Next, len(s.letters)), "100 96 0 4")
	})
}

func TestAListOfNoDeadJobsIsAnEmptyList(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, r := range []jetstream.DeadRequest{{}, {Group: "signature"}} {
			text, err := json.Marshal(operator[jetstream.DeadAnswer](s, "dead", r))
			if err != nil || !strings.Contains(string(text), `"dead":[]`) {
				t.Errorf("%s, %v", text, err)
			}
		}
		for _, r := range []jetstream.DeadRequest{{Since: "soon"}, {Limit: -1}, {Group: "host"}, {Group: "signature", After: 1}} {
			_, err := call[jetstream.DeadAnswer](s.memory, "dead", r)
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

func TestDeadJobsOfATimeAreListed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.buryAs("old", func(*job.Event) {})
		s.pass(2 * time.Hour)
		s.buryAs("new", func(*job.Event) {})
		s.dispatcher(dispatcher.Config{})
		for since, want := range map[string]int{"": 2, "3h": 2, "1h": 1, s.begun.Add(time.Hour).Format(time.RFC3339): 1, s.begun.UTC().Format(time.RFC3339): 2} {
			s.want("since "+since, len(operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Since: since}).Dead), want)
		}
	})
}

// A job without the keys that it was published with, or of which only the beginning is there, cannot run again.
func TestARequeueTellsWhichJobsCannotRunAgainAsTheyAre(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for _, id := range []job.ID{"keys", "cut", "well", "bad"} {
			s.buryAs(id, func(e *job.Event) {
				if id == "bad" {
					e.Reason = string(failure.InvalidJob)
				}
			})
		}
		for at, l := range s.letters {
			if l.Job == "cut" {
				l.Header = map[string][]string{names.TruncatedHeader: {"true"}}
				s.letters[at] = l
			}
		}
		s.mu.Lock()
		s.cut = func(effect string) error {
			switch effect {
			case "requeue keys":
				return queue.ErrExtraData
			case "requeue cut":
				return queue.ErrTruncated
			}
			return nil
		}
		s.mu.Unlock()
		s.dispatcher(dispatcher.Config{})
		a := operator[jetstream.RequeueAnswer](s, "requeue", jetstream.RequeueRequest{All: true})
		s.want("requeued", fmt.Sprint(a.Count, a.Jobs, a.NeedExtraData, a.Next), "1 map[well:well-r1] [keys] 0")
		_, err := call[jetstream.RequeueAnswer](s.memory, "requeue", jetstream.RequeueRequest{Job: "cut"})
		refused[*jetstream.BadRequest](s, err)
		s.want("one that was refused, when it is named", operator[jetstream.RequeueAnswer](s, "requeue", jetstream.RequeueRequest{Job: "bad"}).Count, 1)
		for _, r := range []string{`{"all":true,"extra_data":[]}`, `{"all":true,"only_hosts":["no host"]}`} {
			_, err := call[jetstream.RequeueAnswer](s.memory, "requeue", json.RawMessage(r))
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

// A bulk call that fails in the middle says how far it came, and its record has the error and the time.
func TestARequeueThatFailsInTheMiddleSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for n := range 70 { // the second letters are read when the first 64 are requeued
			s.buryAs(job.ID(fmt.Sprintf("job-%02d", n)), func(*job.Event) {})
		}
		s.dispatcher(dispatcher.Config{})
		s.cuts(map[string]error{"requeue job-66": errCut})
		_, err := call[jetstream.RequeueAnswer](s.memory, "requeue", jetstream.RequeueRequest{All: true})
		if err == nil || !strings.Contains(err.Error(), " jobs were requeued, then: ") || !strings.HasSuffix(err.Error(), "; the call can be repeated") {
			t.Errorf("%v", err)
		}
		s.mu.Lock()
		last := s.acts[len(s.acts)-1]
		s.mu.Unlock()
		if last.Count < 64 || last.Count > 69 || last.Error != err.Error() || !last.Time.Equal(s.Now()) {
			t.Errorf("the record is %+v", last)
		}
		s.cuts(map[string]error{"purge letter 67": errCut})
		_, err = call[queue.PurgeAnswer](s.memory, "purge", queue.PurgeRequest{All: true})
		if err == nil || !strings.Contains(err.Error(), " dead letters were deleted, then: ") {
			t.Errorf("%v", err)
		}
	})
}

// An answer has room for some 8 KiB in these tests.
func TestARequeueOfVeryManyGoesOnInTheNextCall(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]bool{"Requeued": false, "WithoutTheirKeys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				const n = 600
				for i := range n {
					s.buryAs(job.ID(fmt.Sprintf("job-%03d-with-a-long-name", i)), func(*job.Event) {})
				}
				s.mu.Lock()
				s.cut = func(effect string) error {
					if keys && strings.HasPrefix(effect, "requeue ") {
						return queue.ErrExtraData
					}
					return nil
				}
				s.mu.Unlock()
				s.dispatcher(dispatcher.Config{})
				met, calls := map[job.ID]bool{}, 0
				for r := (jetstream.RequeueRequest{All: true}); ; {
					a := operator[jetstream.RequeueAnswer](s, "requeue", r)
					calls++
					for id := range a.Jobs {
						met[id] = true
					}
					for _, id := range a.NeedExtraData {
						met[id] = true
					}
					if text, err := json.Marshal(a); err != nil || len(text) > 12<<10 {
						t.Errorf("an answer has %d bytes", len(text))
					}
					if r.After = a.Next; a.Next == 0 {
						break
					}
				}
				if len(met) != n || calls < 2 {
					t.Errorf("%d jobs in %d calls", len(met), calls)
				}
			})
		})
	}
}
