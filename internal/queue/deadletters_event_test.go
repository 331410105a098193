package queue_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func deadEvent(attempts int, text string) jetstream.Event {
	e := jetstream.Event{
		EventKind: job.Dead, Job: "one", Tenant: "acme", Priority: 5, Hash: aHash, Host: "gpu-1", Attempt: attempts, Kind: failure.HostLost,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reason: string(failure.AttemptsExhausted), Message: text, RequeueOf: "zero",
		Metadata: []byte(`{"a":1}`), Hosts: map[string]string{"gpu-1": text},
	}
	for n := range attempts {
		e.Attempts = append(e.Attempts, failure.Attempt{Number: n + 1, Host: "gpu-1", Kind: failure.HostLost, Message: text, Cause: "down"})
	}
	return e
}

func letterOf(t *testing.T, q *queue.Queue) queue.DeadLetter {
	t.Helper()
	var letters []queue.DeadLetter
	if err := q.DeadLetters(t.Context(), "acme", time.Time{}, func(l queue.DeadLetter) bool {
		letters = append(letters, l)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	return letters[0]
}

// Only the letter is stored, as when the events of its job have expired.
func TestALetterTellsItsWholeStoryAlone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body     int // its bytes; 0: as many as a job may have
		attempts int
		text     string
		told     int // attempts; 0: as many as there is room for
	}{
		"Usual":       {1000, 3, "CUDA error: ünknown\n\"quoted\"", 3},
		"LongTexts":   {1000, 100, strings.Repeat("é", 5000), 100},
		"NoRoom":      {0, 3, strings.Repeat("x", 5000), 3},
		"NoRoomAtAll": {0, 100, "x", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := openWith(t, startNATS(t), queue.Config{MaxJob: 64 << 20}) // as much as NATS takes in one message
			size := tc.body
			if size == 0 {
				size = q.MaxBody()
			}
			e := deadEvent(tc.attempts, tc.text)
			m := job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Body: bytes.Repeat([]byte("b"), size)}
			must(q.Bury(t.Context(), &m, &e, 3))
			l := letterOf(t, q)
			if !bytes.Equal(l.Body, m.Body) {
				t.Errorf("the body has %d bytes, want %d", len(l.Body), size)
			}
			if l.Event.Kind != failure.HostLost || l.Event.Hash != aHash || l.Event.EventKind != job.Dead {
				t.Errorf("the letter tells %+v", l.Event)
			}
			if tc.told == 0 { // the newest attempts stay
				if n := len(l.Event.Attempts); n == 0 || l.Event.Attempts[n-1].Number != 100 {
					t.Errorf("%d attempts are left", n)
				}
				return
			}
			if len(l.Event.Attempts) != tc.told {
				t.Fatalf("%d of %d attempts are told", len(l.Event.Attempts), tc.attempts)
			}
			for i, a := range l.Event.Attempts {
				if a.Number != i+1 || a.Host != "gpu-1" || a.Kind != failure.HostLost || a.Cause != "down" {
					t.Errorf("attempt %d is %+v", i+1, a)
				}
			}
			if name == "Usual" {
				e.Metadata = nil
				if diff := cmp.Diff(e, l.Event); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// The event of a letter of a former version, or of one whose story another program wrote, has what the other headers say.
func TestALetterOfAFormerVersionStillWorks(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]string{"None": "", "Nonsense": "{", "OfAnother": `{"job":"two","tenant":"acme"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startNATS(t)
			q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
			msg := nats.NewMsg("comfy.dead.acme")
			for name, value := range map[string]string{"Comfy-Job-Id": "one", "Comfy-Reason": "expired", "Comfy-Lane-Priority": "7", "Comfy-Dead": story} {
				msg.Header.Set(name, value)
			}
			must(js.PublishMsg(t.Context(), msg))
			l := letterOf(t, q)
			if e := l.Event; e.Job != "one" || e.Tenant != "acme" || e.Priority != 7 || e.Reason != "expired" || !e.Time.Equal(l.Time) || e.EventKind != job.Dead {
				t.Errorf("it tells %+v", e)
			}
		})
	}
}
