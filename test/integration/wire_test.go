package integration_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// What a foreign client sees and does: plain NATS, with names and subjects spelled out as the contract has them.

// publish stores a job by a plain request and gives its place in the stream. Headers come in pairs.
func (f *fleet) publish(subject string, body []byte, headers ...string) uint64 {
	f.t.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = body
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	var ack struct {
		Stream string
		Seq    uint64
		Error  *struct{ Description string }
	}
	f.request(msg, &ack)
	if ack.Error != nil || ack.Stream != "COMFY_JOBS" {
		f.t.Fatalf("publish to %s: %+v", subject, ack)
	}
	return ack.Seq
}

// ours is the job that a message without an id becomes.
func (f *fleet) ours(tenant string, sequence uint64) jetstream.Receipt {
	return jetstream.Receipt{Tenant: job.Tenant(tenant), Job: job.GeneratedID(f.q.Created(), sequence), Sequence: sequence}
}

func receipt(tenant, id string) jetstream.Receipt {
	return jetstream.Receipt{Tenant: job.Tenant(tenant), Job: job.ID(id)}
}

func (f *fleet) request(msg *nats.Msg, answer any) {
	f.t.Helper()
	reply, err := f.nc.RequestMsgWithContext(f.context(), msg)
	if err != nil {
		f.t.Fatalf("request %s: %v", msg.Subject, err)
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		f.t.Fatalf("request %s: %v in %s", msg.Subject, err, reply.Data)
	}
}

// stored is the last message of a subject, which may have wildcards, as the stream has it; nil when there is none.
func (f *fleet) stored(stream, subject string) *nats.Msg {
	f.t.Helper()
	body, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		f.t.Fatal(err)
	}
	reply, err := f.nc.RequestWithContext(f.context(), "$JS.API.DIRECT.GET."+stream, body)
	if err != nil {
		f.t.Fatalf("read %s of %s: %v", subject, stream, err)
	}
	if reply.Header.Get("Status") == "404" {
		return nil
	}
	return reply
}

// subjects counts what a stream holds, by subject.
func (f *fleet) subjects(stream, filter string) map[string]int {
	f.t.Helper()
	var info struct {
		State struct{ Subjects map[string]int }
		Total int
	}
	body := fmt.Sprintf(`{"subjects_filter":%q}`, filter)
	f.request(&nats.Msg{Subject: "$JS.API.STREAM.INFO." + stream, Data: []byte(body)}, &info)
	return info.State.Subjects
}

func (f *fleet) total(stream, filter string) int {
	f.t.Helper()
	n := 0
	for _, count := range f.subjects(stream, filter) {
		n += count
	}
	return n
}

// announced waits until every change of the block table so far has been turned into an event.
func (f *fleet) announced() {
	f.t.Helper()
	f.eventually("all blocks announced", func() bool {
		var info struct {
			Pending    int `json:"num_pending"`
			AckPending int `json:"num_ack_pending"`
		}
		f.request(nats.NewMsg("$JS.API.CONSUMER.INFO.KV_COMFY_BLOCKS.announce"), &info)
		return info.Pending == 0 && info.AckPending == 0
	})
}

// drained waits until no job is stored any more.
func (f *fleet) drained() {
	f.t.Helper()
	defer func() {
		if f.t.Failed() {
			for subject := range f.subjects("COMFY_JOBS", ">") {
				left := f.stored("COMFY_JOBS", subject)
				f.t.Logf("left: %v %.200s", left.Header, left.Data)
				lane := strings.Split(subject, ".")
				chain, err := f.q.Chain(f.context(), job.Tenant(lane[2]), job.ID(left.Header.Get("Comfy-Job-Id")))
				f.t.Logf("its chain: %+v %v", chain, err)
				f.t.Logf("tickets: %v", f.tickets())
			}
		}
	}()
	for most := math.MaxInt; most > 0; { // as long as it takes, while they become fewer
		f.eventually(fmt.Sprintf("fewer jobs than %d left in COMFY_JOBS", most), func() bool {
			left := f.total("COMFY_JOBS", ">")
			fewer := left < most
			most = min(most, left)
			return fewer
		})
	}
}

// checkInvariants holds at the end of every test, whatever it did: all that was published has ended, once.
func (f *fleet) checkInvariants() {
	if f.t.Failed() || f.foreign {
		return
	}
	f.drained()
	f.eventually("no ticket left in COMFY_WAITING", func() bool {
		for subject := range f.subjects("KV_COMFY_WAITING", ">") {
			if m := f.stored("KV_COMFY_WAITING", subject); m != nil && m.Header.Get("KV-Operation") == "" {
				return false
			}
		}
		return true
	})
	dead := 0
	for chain, ends := range f.ends() {
		if len(ends) != 1 {
			f.t.Errorf("chain %s has the ends %v, want one", chain, ends)
			continue
		}
		if last := f.stored("COMFY_EVENTS", chain+".*"); !strings.HasSuffix(last.Header.Get("Nats-Subject"), ends[0]) {
			f.t.Errorf("chain %s goes on after %s with %s", chain, ends[0], last.Header.Get("Nats-Subject"))
		}
		if ends[0] == ".dead" {
			dead++
		}
	}
	if letters := f.total("COMFY_DEAD", ">"); letters+f.purged != dead {
		f.t.Errorf("%d dead letters and %d purged ones for %d dead jobs", letters, f.purged, dead)
	}
}

// ends lists the terminal events of every chain.
func (f *fleet) ends() map[string][]string {
	f.t.Helper()
	chains := map[string][]string{}
	for subject, n := range f.subjects("COMFY_EVENTS", "comfy.events.jobs.>") {
		dot := strings.LastIndexByte(subject, '.')
		chain, kind := subject[:dot], subject[dot:]
		chains[chain] = append(chains[chain], slices.Repeat([]string{kind}, terminal(kind)*n)...)
		if kind == ".queued" && n != 1 {
			f.t.Errorf("%s stands %d times", subject, n)
		}
	}
	return chains
}

func terminal(kind string) int {
	switch kind {
	case ".completed", ".dead", ".cancelled":
		return 1
	}
	return 0
}

// file reads an object of COMFY_OUTPUTS.
func (f *fleet) file(name string) []byte {
	f.t.Helper()
	r, _, err := f.q.OpenOutput(f.context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		f.t.Fatalf("read %s: %v", name, err)
	}
	return data
}

// wantPicture checks that a job completed with exactly one picture, and that it is all of one colour.
func (f *fleet) wantPicture(completed job.Event, want color.RGBA) {
	f.t.Helper()
	if completed.EventKind != job.Completed || len(completed.Outputs) != 1 {
		f.t.Fatalf("job %s ended %s with %d files: %s", completed.Job, completed.EventKind, len(completed.Outputs), completed.Message)
	}
	out := completed.Outputs[0]
	data := f.file(out.Object)
	sum := sha256.Sum256(data)
	if digest := "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:]); out.Digest != digest || out.Size != int64(len(data)) {
		f.t.Errorf("%s has %s and %d bytes, the event says %s and %d", out.Object, digest, len(data), out.Digest, out.Size)
	}
	img, err := png.Decode(strings.NewReader(string(data)))
	if err != nil {
		f.t.Fatalf("%s is no PNG: %v", out.Object, err)
	}
	if got := color.RGBAModel.Convert(img.At(0, 0)); got != want {
		f.t.Errorf("picture of job %s/%s is %v, want %v", completed.Tenant, completed.Job, got, want)
	}
}

func rgb(c int) color.RGBA {
	return color.RGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: 255}
}

// fields decodes a body as somebody does who has only the contract.
func fields(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return all
}

func wantKeys(t *testing.T, what string, got map[string]any, want ...string) {
	t.Helper()
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, want) {
		t.Errorf("%s has the fields %q, want %q", what, have, want)
	}
}

// runs are all executions of all hosts.
func (f *fleet) runs() map[string]int {
	n := map[string]int{}
	for name, sim := range f.sims {
		n[name] = len(sim.Runs())
	}
	return n
}
