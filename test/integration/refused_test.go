package integration_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestABadPublishIsRefusedWithAReasonAndTheLaneMoves(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a"), jetstream: queue.Config{MaxJob: 64 << 20}})
	f.publish("comfy.jobs.acme.5", picture(1), "Comfy-Job-Id", "good")
	f.end(receipt("acme", "good"))
	long := strings.Repeat("t", 65)
	for name, tc := range map[string]struct {
		tenant  string
		body    []byte
		headers []string
		says    string // part of the message
	}{
		"EightMegabytes":       {"acme", bytes.Repeat([]byte("x"), 8_000_000), nil, "no JSON object"},
		"EightMegabytesOfJSON": {"acme", bytes.Repeat([]byte(`{"1":`), 1_600_000), nil, "no valid JSON"},
		"JunkBytes":            {"acme", []byte("\x00\xff\xfe{\x80"), nil, "no JSON object"},
		"Empty":                {"acme", nil, nil, "is empty"},
		"Null":                 {"acme", []byte("null"), nil, "no JSON object"},
		"BrokenJSON":           {"acme", []byte(`{"1":{"class_type":`), nil, "no valid JSON"},
		"UIFormat":             {"acme", []byte(`{"last_node_id":9,"nodes":[{"id":1,"type":"EmptyImage"}],"links":[],"version":0.4}`), nil, "Export (API)"},
		"Cyclic": {"acme", graph(map[string]any{
			"1": node("ImageInvert", "image", link("2")), "2": node("ImageInvert", "image", link("1")),
			"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
		}), nil, "cycle"},
		"NodeWithoutClass":     {"acme", []byte(`{"1":{"inputs":{}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`), nil, "class_type"},
		"NoNodes":              {"acme", []byte(`{}`), nil, "no nodes"},
		"TenantOf65Characters": {long, picture(1), nil, "no tenant name"},
		"TenantWithAccents":    {"träume", picture(1), nil, "no tenant name"},
		"IdsThatDisagree":      {"acme", f.envelope("one", 1), []string{"Comfy-Job-Id", "good"}, "disagree"},
		"IdOfOurs":             {"acme", picture(1), []string{"Comfy-Job-Id", "j-abc-1"}, "j-"},
		"IdThatIsNone":         {"acme", picture(1), []string{"Comfy-Job-Id", "a.b"}, "no job id"},
		"NegativeDuration":     {"acme", []byte(`{"workflow":{},"expires_in":"-1s"}`), nil, "negative"},
		"StrangersInput":       {"acme", []byte(`{"workflow":` + string(picture(1)) + `,"inputs":[{"node":"1","input":"image","object":"bolt/secret.png"}]}`), nil, "your tenant"},
	} {
		sequence := f.publish("comfy.jobs."+tc.tenant+".5", tc.body, tc.headers...)
		behind := f.publish("comfy.jobs."+tc.tenant+".5", picture(2))
		f.wantRefused(name, f.ours(tc.tenant, sequence), tc.body, tc.says)
		if end := f.end(f.ours(tc.tenant, behind)); tc.tenant == "acme" && end.EventKind != job.Completed {
			t.Errorf("%s: the job behind it ended %s: %s", name, end.EventKind, end.Message)
		}
	}
	if chain := f.chain(receipt("acme", "good")); kinds(chain) != "queued started completed" {
		t.Errorf("a bad publish touched another's chain: %q", kinds(chain))
	}
}

// wantRefused checks a job's only event and its dead letter.
func (f *fleet) wantRefused(name string, r jetstream.Receipt, body []byte, says string) {
	f.t.Helper()
	chain := f.chain(r)
	if e := chain[0]; kinds(chain) != "dead" || e.Reason != string(failure.InvalidJob) || !strings.Contains(e.Message, says) {
		f.t.Errorf("%s: chain %q, reason %s: %q; want one dead, invalid_job, with %q", name, kinds(chain), e.Reason, e.Message, says)
	}
	letter := f.letter(r)
	if letter == nil {
		f.t.Errorf("%s: no dead letter of job %s", name, r.Job)
		return
	}
	most := min(len(body), 4<<10)
	if letter.Header.Get("Comfy-Reason") != "invalid_job" || !bytes.Equal(letter.Body, body[:most]) || letter.Truncated() != (most < len(body)) {
		f.t.Errorf("%s: the dead letter has the headers %v and %d bytes, want invalid_job and the first %d bytes of the publish",
			name, letter.Header, len(letter.Body), most)
	}
}

// letter finds a job's dead letter by its header.
func (f *fleet) letter(r jetstream.Receipt) *queue.DeadLetter {
	f.t.Helper()
	var found *queue.DeadLetter
	err := f.q.DeadLetters(f.context(), r.Tenant, time.Time{}, func(l queue.DeadLetter) bool {
		if l.Header.Get("Comfy-Job-Id") == string(r.Job) {
			found = &l
		}
		return found == nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// Whoever submits a job follows it by the id that they gave, and must see its end there.
func TestAnInvalidJobEndsUnderTheIDThatItsPublisherGave(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	noClass := []byte(`{"1":{"inputs":{}}}`)
	f.publish("comfy.jobs.acme.5", noClass, "Comfy-Job-Id", "in-header")
	f.wantRefused("in the header", receipt("acme", "in-header"), noClass, "class_type")
	inBody := []byte(`{"id":"in-body","workflow":{"1":{"inputs":{}}}}`)
	f.publish("comfy.jobs.acme.5", inBody)
	f.wantRefused("in the body", receipt("acme", "in-body"), inBody, "class_type")

	f.publish("comfy.jobs.acme.5", picture(1), "Comfy-Job-Id", "taken")
	f.end(receipt("acme", "taken"))
	sequence := f.publish("comfy.jobs.acme.5", noClass, "Comfy-Job-Id", "taken")
	f.wantRefused("another job has the id", f.ours("acme", sequence), noClass, "class_type")
	if chain := f.chain(receipt("acme", "taken")); kinds(chain) != "queued started completed" {
		t.Errorf("an invalid job with the id of another touched its chain: %q", kinds(chain))
	}
}

func TestAPriorityThatIsNoneIsRefusedAtThePublish(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	for _, subject := range []string{"comfy.jobs.acme.x", "comfy.jobs.acme.10", "comfy.jobs.acme", "comfy.jobs.acme.5.5"} {
		if _, err := f.nc.RequestWithContext(f.context(), subject, picture(1)); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("publish to %s: %v, want %v", subject, err, nats.ErrNoResponders)
		}
	}
	if _, err := f.q.Submit(f.context(), job.Lane{Tenant: "acme", Priority: 10}, job.Spec{Workflow: picture(1)}); err == nil ||
		!strings.Contains(err.Error(), "a priority is 0 to 9") {
		t.Errorf("Submit with priority 10: %v", err)
	}
}

func TestABodyBeyondMaxPayloadIsRefusedAtThePublish(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	huge := paint(checkpoint, strings.Repeat("a very long prompt ", 500_000), 1)
	if err := f.nc.Publish("comfy.jobs.acme.5", huge); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("publish %d bytes: %v, want %v", len(huge), err, nats.ErrMaxPayload)
	}
	_, err := f.q.Submit(f.context(), lane("acme"), job.Spec{Workflow: huge})
	if !errors.Is(err, jetstream.ErrTooLarge) || !strings.Contains(err.Error(), "COMFY_INPUTS") {
		t.Errorf("Submit %d bytes: %v", len(huge), err)
	}
}

// What fits into a publish to the last byte still has to reach an agent or a dead letter, with headers of ours.
func TestABodyThatJustFitsIsNeitherLostNorStuck(t *testing.T) {
	t.Parallel()
	cfg := shortLeases()
	cfg.MaxJob = 64 << 20
	f := start(t, setup{dispatchers: 2, hosts: painters("a"), jetstream: cfg})
	room := int(f.nc.MaxPayload())
	for name, body := range map[string][]byte{
		"Junk": bytes.Repeat([]byte("x"), room), "Workflow": pad(room),
	} {
		r := f.ours("acme", f.publish("comfy.jobs.acme.5", body))
		end := f.end(r)
		if end.EventKind != job.Completed && (end.EventKind != job.Dead || end.Message == "" || f.letter(r) == nil) {
			t.Errorf("%s of %d bytes ended %s %s: %q, letter %v", name, len(body), end.EventKind, end.Reason, end.Message, f.letter(r) != nil)
		}
	}
	f.wantPicture(f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", picture(3)))), rgb(3))
}

// pad makes a workflow of exactly n bytes.
func pad(n int) []byte {
	frame := len(paint(checkpoint, "", 1))
	return paint(checkpoint, strings.Repeat("x", n-frame), 1)
}
