package dispatcher

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// The tests of the parts, one file each. A part is made with the few others that it needs, and with functions that note
// what they were called with; time is an argument.

// noonUTC is when the tests begin.
var noonUTC = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// same fails when something is not as it should be.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// logged collects what is logged, to count lines.
type logged struct{ bytes.Buffer }

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&l.Buffer, nil)) }

func (l *logged) lines() int { return strings.Count(l.String(), "\n") }

// graphOf is a workflow of its own kind for each number.
func graphOf(n int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"EmptyImage%d","inputs":{"width":64,"height":64,"batch_size":1,"color":1}},`+
		`"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"a"}}}`, n))
}

// ownedJob is a job of a tenant at a sequence, whose workflow has a number.
func ownedJob(t testing.TB, tenant string, sequence uint64, n int, edit ...func(*job.Spec)) *owned {
	t.Helper()
	spec := job.Spec{ID: job.ID(fmt.Sprintf("%s-%d", tenant, sequence)), Workflow: graphOf(n)}
	for _, change := range edit {
		change(&spec)
	}
	body, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	message := job.Message{Tenant: tenant, Priority: job.Usual, Sequence: sequence, Received: noonUTC, Body: body}
	j, err := job.Parse(message)
	if err != nil {
		t.Fatal(err)
	}
	return &owned{job: j, message: message, lease: queue.Lease(fmt.Sprintf("lease-%d", sequence)), last: 1, attempt: 1, notBefore: j.NotBefore()}
}

func hashOfGraph(t *testing.T, n int) workflow.Hash {
	t.Helper()
	return ownedJob(t, "acme", 1, n).job.Graph.Hash()
}

// onlineHost is a host with some slots that runs nothing.
func onlineHost(name string, serial uint64, slots int) queue.HostState {
	return queue.HostState{
		Host: name, Instance: "i", Serial: serial, State: queue.Online, Slots: slots, Time: noonUTC.Add(time.Duration(serial) * time.Second),
	}
}

// fleetOf is a fleet of hosts with a slot each that can run everything of a few workflows.
func fleetOf(t *testing.T, hosts ...string) *route.Fleet {
	t.Helper()
	f := route.NewFleet()
	for _, name := range hosts {
		f.PutHost(route.HostState{ID: route.HostID(name), State: route.Online, Slots: 1, Home: true})
	}
	return f
}

// chosen is the host that a job would get; empty when it would get none.
func chosen(f *route.Fleet, o *owned, now time.Time) string {
	host, _ := f.Choose(wantOf(o), now)
	return string(host)
}

// peersOf are the dispatcher "me" and others.
func peersOf(others ...string) *peers {
	p := newPeers("me")
	p.put("me", noonUTC)
	for _, name := range others {
		p.put(name, noonUTC)
	}
	return p
}

// nameAwayFromHome is one whose home is the dispatcher "other", beside "me".
func nameAwayFromHome(format string) string {
	p := peersOf("other")
	for n := 0; ; n++ {
		if name := fmt.Sprintf(format, n); !p.isHome(name) {
			return name
		}
	}
}

// nameAtHome is one whose home is the dispatcher "me", beside "other".
func nameAtHome(format string) string {
	p := peersOf("other")
	for n := 0; ; n++ {
		if name := fmt.Sprintf(format, n); p.isHome(name) {
			return name
		}
	}
}
