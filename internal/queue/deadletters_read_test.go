package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestDeadLettersAreReadInOrderAndNoneThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	bury := func(tenant job.Tenant, id job.ID, size int) {
		e := job.Event{EventKind: job.Dead, Job: id, Tenant: tenant, Priority: 3, Time: q.Now(), Reason: string(failure.Expired)}
		body := []byte(`{"id":"` + string(id) + `","workflow":{},"metadata":"` + strings.Repeat("x", size) + `"}`)
		if _, err := q.Bury(t.Context(), &job.Message{Tenant: string(tenant), Priority: 3, Body: body}, &e, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []job.ID{"a", "b", "c", "d", "e"} {
		bury("acme", id, 700_000) // so that a batch ends before all are there
		bury("bolt", id, 700_000)
	}
	read := func(tenant job.Tenant, since time.Time, after uint64, stop int) (found []string) {
		err := q.DeadLettersAfter(t.Context(), tenant, since, after, func(l queue.DeadLetter) bool {
			if l.Event.Reason != string(failure.Expired) || l.Priority() != 3 || time.Since(l.Time).Abs() > time.Hour || !strings.Contains(string(l.Body), `"id":"`+string(l.Job)) {
				t.Errorf("letter %d is %+v", l.Sequence, l.Event)
			}
			found = append(found, string(l.Tenant)+"/"+string(l.Job))
			if len(found) == 1 {
				bury("acme", "late", 0)
			}
			return len(found) != stop
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for name, c := range map[string]struct {
		got  []string
		want []string
	}{
		"All":    {read("", time.Time{}, 0, 0), []string{"acme/a", "bolt/a", "acme/b", "bolt/b", "acme/c", "bolt/c", "acme/d", "bolt/d", "acme/e", "bolt/e"}},
		"Tenant": {read("bolt", time.Time{}, 0, 0), []string{"bolt/a", "bolt/b", "bolt/c", "bolt/d", "bolt/e"}},
		"Behind": {read("bolt", time.Time{}, 8, 0), []string{"bolt/e"}},
		"Enough": {read("bolt", time.Time{}, 0, 2), []string{"bolt/a", "bolt/b"}},
		"Since":  {read("", q.Now().Add(time.Hour), 0, 0), nil},
		"Nobody": {read("coral", time.Time{}, 0, 0), nil},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s, want (-) and got (+):\n%s", name, diff)
		}
	}
	answer, err := nc.Request("$JS.API.CONSUMER.NAMES.COMFY_DEAD", nil, time.Minute)
	if err != nil || !strings.Contains(string(answer.Data), `"total":0`) {
		t.Errorf("consumers of the stream: %s, %v", answer.Data, err)
	}
}
