package docs_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/test/docs"
)

// streams asks the server for all its streams.
func streams(t *testing.T, nc *nats.Conn) map[string]streamConfig {
	t.Helper()
	var list struct {
		Streams []struct {
			Config streamConfig `json:"config"`
		} `json:"streams"`
	}
	ask(t, nc, "$JS.API.STREAM.LIST", "", &list)
	found := map[string]streamConfig{}
	for _, s := range list.Streams {
		found[s.Config.Name] = s.Config
	}
	return found
}

type streamConfig struct {
	Name      string        `json:"name"`
	Subjects  []string      `json:"subjects"`
	Retention string        `json:"retention"`
	MaxAge    time.Duration `json:"max_age"`
	LaneCap   int           `json:"max_msgs_per_subject"`
	Discard   string        `json:"discard"`
	PerLane   bool          `json:"discard_new_per_subject"`
	Replicas  int           `json:"num_replicas"`
}

// prefixes are what NATS puts before the names of buckets and stores.
var prefixes = map[string]string{"bucket": "KV_", "object store": "OBJ_", "stream": "", "work queue": ""}

func TestTheStreamsAreAsDocumented(t *testing.T) {
	t.Parallel()
	nc, _ := startNATS(t)
	found := streams(t, nc)
	var documented []string
	for _, row := range docs.Table(contract(t), "streams") {
		prefix, known := prefixes[row[1]]
		if !known {
			t.Fatalf("%s: %q is no kind of stream", row[0], row[1])
		}
		name := prefix + docs.Code(row[0])[0]
		documented = append(documented, name)
		s := found[name]
		if got := ageText(s.MaxAge); got != row[3] {
			t.Errorf("%s is kept %s, docs/contract.md says %s", name, got, row[3])
		}
		if (s.Retention == "workqueue") != (row[1] == "work queue") {
			t.Errorf("%s has the retention %s, docs/contract.md says %s", name, s.Retention, row[1])
		}
		if prefix == "" {
			for _, subject := range docs.Code(row[2]) {
				if !slices.Contains(s.Subjects, subject) {
					t.Errorf("%s has not the subject %s of docs/contract.md but %q", name, subject, s.Subjects)
				}
			}
		}
	}
	for name := range found {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is missing in docs/contract.md", name)
		}
	}
	jobs := found["COMFY_JOBS"]
	if jobs.LaneCap != 10000 || jobs.Discard != "new" || !jobs.PerLane || len(jobs.Subjects) != 10 {
		t.Errorf("COMFY_JOBS is %+v", jobs)
	}
}

func ageText(age time.Duration) string {
	if age == 0 {
		return "-"
	}
	text := age.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// What the reference of flags calls a default is what a fresh NATS gets.
func TestTheDefaultsOfFlagsAreThoseOfAFreshNATS(t *testing.T) {
	t.Parallel()
	nc, q := startNATS(t)
	found := streams(t, nc)
	actual := map[string]string{
		"--ack-wait": ageText(q.AckWait()), "--presence-ttl": ageText(found["KV_COMFY_HOSTS"].MaxAge),
		"--events-age": ageText(found["COMFY_EVENTS"].MaxAge), "--dead-age": ageText(found["COMFY_DEAD"].MaxAge),
		"--files-age": ageText(found["OBJ_COMFY_OUTPUTS"].MaxAge), "--lane-cap": "10000", "--replicas": "1",
	}
	if found["COMFY_JOBS"].LaneCap != 10000 || found["COMFY_JOBS"].Replicas != 1 {
		t.Errorf("COMFY_JOBS is %+v", found["COMFY_JOBS"])
	}
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range actual {
		at := strings.Index(pages["docs/configuration.md"], "| `"+flag+"=")
		if at < 0 {
			t.Errorf("docs/configuration.md has no %s", flag)
			continue
		}
		line, _, _ := strings.Cut(pages["docs/configuration.md"][at:], "\n")
		if got := strings.TrimSpace(strings.Split(line, "|")[4]); got != want {
			t.Errorf("%s: docs/configuration.md says %s, a fresh NATS gets %s", flag, got, want)
		}
	}
}

func TestConsumersAndServiceAreAsDocumented(t *testing.T) {
	t.Parallel()
	nc, _ := startFleet(t)
	page := contract(t)
	want := map[string][]string{}
	for _, row := range docs.Table(page, "consumers") {
		names := docs.Code(row[0])
		if strings.Contains(row[0], "…") {
			first, last := names[0], names[1]
			names = nil
			for c := first[len(first)-1]; c <= last[len(last)-1]; c++ {
				names = append(names, first[:len(first)-1]+string(c))
			}
		}
		stream := docs.Code(row[1])[0]
		want[stream] = append(want[stream], names...)
	}
	for stream, names := range want {
		var got []string
		eventually(t, "consumers of "+stream, func() bool {
			got = consumers(t, nc, stream)
			return len(got) >= len(names)
		})
		same(t, "consumer of "+stream, names, got)
	}
	var info struct {
		Endpoints []struct {
			Subject string `json:"subject"`
		} `json:"endpoints"`
	}
	ask(t, nc, "$SRV.INFO.comfy-dispatcher", "", &info)
	var subjects []string
	for _, e := range info.Endpoints {
		subjects = append(subjects, e.Subject)
	}
	documented := column(docs.Table(page, "api"), 0)
	for _, subject := range column(docs.Table(page, "tenant calls"), 0) {
		documented = append(documented, strings.Replace(subject, "<tenant>", "*", 1))
	}
	same(t, "call", documented, subjects)
}

// consumers lists the durable ones, which alone are of the contract: watchers come and go.
func consumers(t *testing.T, nc *nats.Conn, stream string) []string {
	t.Helper()
	var list struct {
		Consumers []struct {
			Config struct {
				Durable string `json:"durable_name"`
			} `json:"config"`
		} `json:"consumers"`
	}
	ask(t, nc, "$JS.API.CONSUMER.LIST."+stream, "", &list)
	var names []string
	for _, c := range list.Consumers {
		if c.Config.Durable != "" && !strings.HasPrefix(c.Config.Durable, "JS_SRC_") { // NATS' own
			names = append(names, c.Config.Durable)
		}
	}
	return names
}

// A fleet lives through every kind of event, and what it wrote is held against the page: no field that the page does
// not give to that kind, no header that it does not name.
func TestEventsOnTheWireAreAsDocumented(t *testing.T) {
	t.Parallel()
	nc, _ := startFleet(t)
	sub, err := nc.SubscribeSync("comfy.events.>")
	if err != nil {
		t.Fatal(err)
	}
	id := func(id string) nats.Header { return nats.Header{"Comfy-Job-Id": {id}} }
	lane := "comfy.jobs.acme.5"
	publish(t, nc, lane, id("good"), `{"workflow":`+picture("good")+`,"metadata":{"a":1}}`)
	publish(t, nc, lane, id("bad"), picture("boom"))
	publish(t, nc, lane, id("never"), strings.Replace(picture("never"), "EmptyImage", "NowhereNode", 1))
	publish(t, nc, lane, id("junk"), "junk")
	kinds := map[string]bool{}
	page := contract(t)
	for !allIn(kinds) {
		msg, err := sub.NextMsg(testTimeout)
		if err != nil {
			t.Fatalf("of the kinds of events only %v came: %v", kinds, err)
		}
		checkHeaders(t, page, msg)
		if !strings.HasPrefix(msg.Subject, "comfy.events.jobs.") {
			continue
		}
		kind := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
		kinds[kind] = true
		checkFields(t, page, kind, msg.Data)
		if kind == "waiting" && strings.Contains(msg.Subject, ".never.") {
			var answer struct{ State string }
			ask(t, nc, "comfy.api.cancel", `{"tenant":"acme","job":"never"}`, &answer)
			if answer.State != "cancelled" {
				t.Errorf("cancel answered %+v", answer)
			}
		}
	}
}

func allIn(kinds map[string]bool) bool {
	for _, kind := range job.EventKinds() {
		if !kinds[string(kind)] {
			return false
		}
	}
	return true
}

// republished is what NATS adds to a message that a stream republishes, besides its sequence.
var republished = []string{"Nats-Stream", "Nats-Subject", "Nats-Time-Stamp", "Nats-Last-Sequence"}

func checkHeaders(t *testing.T, page string, msg *nats.Msg) {
	t.Helper()
	documented := column(docs.Table(page, "headers"), 0)
	for header := range msg.Header {
		natsOwn := strings.HasPrefix(header, "Nats-Expected-") || slices.Contains(republished, header)
		if !slices.Contains(documented, header) && !natsOwn {
			t.Errorf("%s has the header %s, which is missing in docs/contract.md", msg.Subject, header)
		}
	}
}

func checkFields(t *testing.T, page, kind string, body []byte) {
	t.Helper()
	var event map[string]json.RawMessage
	if err := json.Unmarshal(body, &event); err != nil {
		t.Fatalf("%s event %s: %v", kind, body, err)
	}
	allowed := map[string]bool{}
	for _, row := range docs.Table(page, "fields: job.Event") {
		in := strings.Fields(row[2])
		allowed[docs.Code(row[0])[0]] = slices.Contains(in, "all") || slices.Contains(in, kind)
	}
	for name := range event {
		if !allowed[name] {
			t.Errorf("%s has the field %s, which docs/contract.md does not give it: %s", kind, name, body)
		}
	}
}

func TestTheKindsOfTheFieldsExist(t *testing.T) {
	t.Parallel()
	for _, row := range docs.Table(contract(t), "fields: job.Event") {
		for kind := range strings.FieldsSeq(row[2]) {
			if kind != "all" && !slices.Contains(job.EventKinds(), job.EventKind(kind)) {
				t.Errorf("%s is in %q, which is no kind of event", row[0], kind)
			}
		}
	}
}
