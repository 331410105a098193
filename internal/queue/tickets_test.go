package queue_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/queue"
)

const ticketKey = "5.acme.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.7"

func plainTicket() queue.Ticket {
	return queue.Ticket{
		Priority: 5, Tenant: "acme", Hash: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Sequence: 7, Revision: 9,
		Job: "cat-1", Lease: "$JS.ACK.COMFY_JOBS.dispatch_5.1.7.7.1767225600000000000.0", Size: 1048576, Attempt: 2,
		Received: time.Date(2026, 1, 2, 3, 4, 5, 60_000, time.UTC),
	}
}

func encodedTicket(t testing.TB, x queue.Ticket) string {
	t.Helper()
	value, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestATicketIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	later := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
	for name, change := range map[string]func(*queue.Ticket){
		"Plain":       func(*queue.Ticket) {},
		"UnknownSize": func(x *queue.Ticket) { x.Size = 0 },
		"Scheduled":   func(x *queue.Ticket) { x.NotBefore = &later },
		"WithHosts":   func(x *queue.Ticket) { x.OnlyHosts, x.AvoidHosts = []string{"gpu-1"}, []string{"gpu-2"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := plainTicket()
			change(&want)
			got, err := queue.TicketOf(queue.Entry{Key: ticketKey, Value: []byte(encodedTicket(t, want)), Revision: 9})
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("err %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// sameTicket compares with what encoding/json reads.
func sameTicket(t *testing.T, value string) {
	t.Helper()
	want := queue.Ticket{Priority: 5, Tenant: "acme", Hash: plainTicket().Hash, Sequence: 7, Revision: 9}
	got := want
	plain := queue.ReadPlainTicket(&got, value)
	err := json.Unmarshal([]byte(value), &want)
	switch diff := cmp.Diff(want, got); {
	case plain && (err != nil || diff != ""):
		t.Errorf("%q: encoding/json gives %v (-json +got):\n%s", value, err, diff)
	case !plain && got.Job != "":
		t.Errorf("%q was not read and still gave job %q", value, got.Job)
	}
}

func FuzzATicketIsReadLikeTheLibraryDoes(f *testing.F) {
	value := encodedTicket(f, plainTicket())
	for _, body := range []string{
		value, "", "{}", "null", value + " ", value[:len(value)-1], strings.Replace(value, `"attempt":2`, `"attempt":-2`, 1),
		strings.Replace(value, "cat-1", `cat\u0031`, 1), strings.Replace(value, `"size":1048576`, `"size":1e6`, 1),
		strings.Replace(value, `"size"`, `"SIZE"`, 1), strings.Replace(value, "2026", "20260", 1), strings.Replace(value, `"attempt":2`, `"attempt":99999999999999999`, 1),
	} {
		f.Add(body)
	}
	f.Fuzz(sameTicket)
}

func TestAPlainTicketNeedsNoReflection(t *testing.T) {
	t.Parallel()
	got := queue.Ticket{}
	if !queue.ReadPlainTicket(&got, encodedTicket(t, plainTicket())) || got.Job != "cat-1" {
		t.Errorf("the form that dispatchers write was not read: %+v", got)
	}
}

func BenchmarkTicketOf(b *testing.B) {
	e := queue.Entry{Key: ticketKey, Value: []byte(encodedTicket(b, plainTicket())), Revision: 9}
	for b.Loop() {
		if _, err := queue.TicketOf(e); err != nil {
			b.Fatal(err)
		}
	}
}

// Whoever has missed changes reads those behind the last one that it knows, in their order, and the ends of tickets as well.
func TestChangesOfTicketsAreReadBehindARevision(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	const many = 600 // more than a batch
	var last uint64
	for n := range uint64(many) {
		lease := queue.Lease(fmt.Sprintf("$JS.ACK.COMFY_JOBS.dispatch_5.1.%d.3.1790000000000000000.0", n+1))
		last = must(q.PutTicket(ctx, &queue.Ticket{Priority: 5, Tenant: "acme", Hash: aHash, Sequence: n + 1, Job: "one", Lease: lease, Attempt: 1}))
	}
	claimed := queue.Ticket{Priority: 5, Tenant: "acme", Hash: aHash, Sequence: many}
	end := must(q.Claim(ctx, claimed.Key(), last))
	log := must(q.TicketLog(ctx))
	if end != last+1 || log.Last != end || log.First != 1 || log.Made.IsZero() {
		t.Fatalf("the claim has revision %d, and the bucket is %+v; the last ticket has revision %d", end, log, last)
	}
	next := uint64(10)
	must(0, q.TicketsAfter(ctx, next, func(c queue.Change[queue.Ticket]) {
		if next++; next == last {
			next++ // the claim has replaced it
		}
		if c.Revision != next || (c.Phase == queue.Put) != (next < end) || c.Phase == queue.Put && c.Value.Job != "one" || c.Time.IsZero() {
			t.Fatalf("%+v, want revision %d", c, next)
		}
	}))
	if next != end {
		t.Errorf("read up to revision %d of %d", next, end)
	}
}
