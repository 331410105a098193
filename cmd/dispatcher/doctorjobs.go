package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// trial is one of the doctor's jobs and what became of it.
type trial struct {
	Tenant job.Tenant    `json:"tenant"`
	Job    job.ID        `json:"job"`
	Wanted string        `json:"wanted,omitempty"` // the host that it was for; empty: any
	Host   string        `json:"host,omitempty"`   // that ran it
	State  job.EventKind `json:"state,omitempty"`  // of its last event
	Text   string        `json:"text,omitempty"`   // why it has not completed
	Took   job.Duration  `json:"took,omitempty"`   // from the publish to the event of the end
	Waited job.Duration  `json:"waited,omitempty"` // until it began
	Ran    job.Duration  `json:"ran,omitempty"`    // in ComfyUI
	Bytes  int64         `json:"bytes,omitempty"`  // of its files, which were fetched and compared

	began time.Time
	busy  bool // it only waited its turn
}

var usualDoctors = []string{"doctor-1", "doctor-2", "doctor-3"}

// plan chooses the jobs: one of each tenant for each host, and one of each tenant for any host. When these are too many, each host
// gets one before any gets a second.
func (d *doctorCmd) plan(x *examination, hosts []queue.HostInfo) []trial {
	tenants := d.Tenant
	if len(tenants) == 0 {
		tenants = usualDoctors
	}
	var able []queue.HostInfo
	for i := range hosts {
		if named := len(d.Host) == 0 || slices.Contains(d.Host, hosts[i].Host); named && hosts[i].State == queue.Online {
			able = append(able, hosts[i])
		}
	}
	for _, name := range d.Host {
		if !slices.ContainsFunc(able, func(h queue.HostInfo) bool { return h.Host == name }) {
			x.add(check{checkBad, "host " + name, "is not online, so no job was sent to it", "`dispatcher hosts` lists the hosts."})
		}
	}
	run := strings.ToLower(uuid.NewString()[:8])
	var trials []trial
	for n, tenant := range tenants {
		for i := range able {
			h := &able[i]
			if len(h.Tenants) > 0 && !slices.Contains(h.Tenants, job.Tenant(tenant)) {
				continue
			}
			trials = append(trials, trial{Tenant: job.Tenant(tenant), Job: job.ID(fmt.Sprintf("doctor-%s-%d-%d", run, n, i)), Wanted: h.Host})
		}
	}
	for n, tenant := range tenants {
		if len(d.Host) == 0 && len(able) > 0 {
			trials = append(trials, trial{Tenant: job.Tenant(tenant), Job: job.ID(fmt.Sprintf("doctor-%s-%d-any", run, n))})
		}
	}
	if len(trials) > d.Jobs {
		x.add(check{checkWarn, "jobs", fmt.Sprintf("%d of %d are sent", d.Jobs, len(trials)), "--jobs raises the number, --host and --tenant choose."})
		trials = trials[:d.Jobs]
	}
	return trials
}

// send publishes the jobs, follows them to their ends, and cancels what has not ended in time.
func (d *doctorCmd) send(ctx context.Context, nc *nats.Conn, trials []trial, graphs func() json.RawMessage) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	byTenant := map[job.Tenant][]*trial{}
	for i := range trials {
		byTenant[trials[i].Tenant] = append(byTenant[trials[i].Tenant], &trials[i])
	}
	var following sync.WaitGroup
	for tenant, own := range byTenant {
		client := jetstream.NewClient(nc, tenant)
		following.Go(func() { d.sendOf(ctx, client, own, graphs) })
	}
	following.Wait()
}

func (d *doctorCmd) sendOf(ctx context.Context, client *jetstream.Client, own []*trial, graphs func() json.RawMessage) {
	byID, ids := map[job.ID]*trial{}, []job.ID{}
	for _, t := range own {
		spec := job.Spec{ID: t.Job, Name: "dispatcher doctor", Workflow: graphs(), MaxAttempts: 1, ExpiresIn: job.Duration(d.Timeout + jetstream.CallTime)} // until then the doctor asks why it waits
		if t.Wanted != "" {
			spec.OnlyHosts = []string{t.Wanted}
		}
		t.began = time.Now()
		if _, err := client.Submit(ctx, job.Priority(d.Priority), spec); err != nil {
			t.Text = "it could not be published: " + err.Error()
			continue
		}
		byID[t.Job], ids = t, append(ids, t.Job)
	}
	if len(ids) == 0 {
		return
	}
	for e, err := range client.FollowMany(ctx, ids) {
		if err != nil {
			break
		}
		byID[e.Job].see(&e)
		if e.EventKind == job.Completed {
			byID[e.Job].fetch(ctx, client, &e)
		}
	}
	d.giveUp(ctx, client, byID)
}

// see takes over what an event says.
func (t *trial) see(e *job.Event) {
	t.State, t.Host = e.EventKind, cmp.Or(e.Host, t.Host)
	if !e.EventKind.Terminal() {
		return
	}
	t.Took = job.Duration(time.Since(t.began))
	t.Waited, t.Ran = e.QueuedFor, e.RanFor
	if e.EventKind != job.Completed {
		t.Text = joined(daemon.Spaces(e.Reason), daemon.FirstLine(e.Message))
	}
}

// fetch reads the files of a completed job and compares them with their digests.
func (t *trial) fetch(ctx context.Context, client *jetstream.Client, e *job.Event) {
	for i := range e.Outputs {
		o := &e.Outputs[i]
		if o.Object == "" {
			continue
		}
		body, _, err := client.OpenFile(ctx, o.Object, 0)
		if err != nil {
			t.Text = "its file cannot be read: " + err.Error()
			return
		}
		sum := sha256.New()
		n, err := io.Copy(sum, body)
		body.Close()
		if got := "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil)); err == nil && o.Digest != "" && got != o.Digest {
			err = fmt.Errorf("%s has another digest than its job has written", o.Object)
		}
		if err != nil {
			t.Text = "its file is damaged: " + err.Error()
			return
		}
		t.Bytes += n
	}
}

// giveUp cancels what has not ended, and says why it has not.
func (d *doctorCmd) giveUp(ctx context.Context, client *jetstream.Client, all map[job.ID]*trial) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jetstream.CallTime)
	defer cancel()
	for id, t := range all {
		if t.State.Terminal() {
			continue
		}
		t.Text = fmt.Sprintf("it has not ended within %s", daemon.Span(d.Timeout))
		if why, err := client.Why(ctx, jetstream.WhyRequest{Job: id}); err == nil && why.Text != "" {
			t.Text += ": " + why.Text
			t.busy = t.State == job.Queued && why.Reason == "" && why.Position > 0
		}
		if _, err := client.Cancel(ctx, jetstream.CancelRequest{Job: id, Force: true, By: "dispatcher doctor"}); err != nil {
			t.Text += "; it could not be cancelled: " + err.Error()
		}
	}
}

// judge says for each host which of its jobs have not completed, and why, and of the others how long they took.
func (x *examination) judge(trials []trial) {
	x.Jobs = trials
	var took, waited, ran []time.Duration
	bytes := int64(0)
	var wanted []string // the hosts in their order; empty for jobs that any might run
	sent, failed := map[string]int{}, map[string][]*trial{}
	for i := range trials {
		t := &trials[i]
		if sent[t.Wanted] == 0 {
			wanted = append(wanted, t.Wanted)
		}
		sent[t.Wanted]++
		if t.State == job.Completed && t.Text == "" {
			took, waited, ran = append(took, time.Duration(t.Took)), append(waited, time.Duration(t.Waited)), append(ran, time.Duration(t.Ran))
			bytes += t.Bytes
			continue
		}
		failed[t.Wanted] = append(failed[t.Wanted], t)
	}
	for _, host := range wanted {
		if bad := failed[host]; len(bad) > 0 {
			x.add(notCompleted(host, bad, sent[host]))
		}
	}
	if len(took) == 0 {
		return
	}
	x.ok("jobs", "%d of %d completed; from the publish to the end half took less than %s and the longest %s, waiting %s, ComfyUI %s",
		len(took), len(trials), daemon.Span(middle(took)), daemon.Span(slices.Max(took)), daemon.Span(middle(waited)), daemon.Span(middle(ran)))
	x.ok("files", "%s fetched and compared with their digests", daemon.Size(bytes))
}

// notCompleted is one check for the jobs of a host, since they mostly have one cause. That a fleet is busy is no fault.
func notCompleted(host string, bad []*trial, sent int) check {
	where := "that any host may run"
	if host != "" {
		where = "for " + host
	}
	worst := bad[max(0, slices.IndexFunc(bad, func(t *trial) bool { return !t.busy }))]
	found := check{checkBad, "jobs", fmt.Sprintf("%d of %d %s did not complete; %s/%s: %s", len(bad), sent, where, worst.Tenant, worst.Job, cmp.Or(worst.Text, "it has not begun")),
		fmt.Sprintf("`dispatcher why %[1]s --tenant %[2]s` and `dispatcher status %[1]s --tenant %[2]s` show more.", worst.Job, worst.Tenant)}
	if worst.busy {
		found.State, found.Do = checkWarn, "Other jobs come first. Try again when fewer wait, or with a longer --timeout or a higher --priority."
	}
	return found
}

func middle(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
