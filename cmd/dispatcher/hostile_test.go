package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// evil is a text that would do all that a text can do to a terminal.
const evil = "evil\x1b[2J\x1b]0;x\a\r\n\t\x00\x7f\u009b2J\u009d0;x\u009c\u0085\u202e\u2067\u061c\u200b\u00ad\ufeff\u2028\u2029\U000e0041\x9b2J"

// evilToken is the same as far as a subject takes it.
var evilToken = strings.NewReplacer("\r", "", "\n", "", "\t", "", "\x00", "", "\u0085", "", "\u2028", "", "\u2029", "", "\x9b", "").Replace(evil)

// fill makes every text in an answer evil, at any depth, and everything else present.
func fill(v reflect.Value, depth int) {
	if depth == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth-1)
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes(append(append([]byte{'"'}, "evil\u009b\u202e\u2028"...), '"'))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth-1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth-1)
		fill(value, depth-1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Now().Add(time.Hour)))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), depth-1)
			}
		}
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Bool:
		v.SetBool(true)
	}
}

func filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), 12)
	return v
}

// raw encodes a value without escaping what only a JavaScript program would mind, as other languages do.
func raw(t *testing.T, v any) []byte {
	t.Helper()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(body.Bytes())
}

// startHostile is a NATS whose streams and answers are evil wherever others can write.
func startHostile(t *testing.T) string {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.URL(), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		nc.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	event := job.Event{
		Job: "j1", Tenant: "default", Time: time.Now(), Host: "gpu-1", Message: evil, Node: evil, Class: evil, Exception: evil, By: evil,
		Outputs: []job.Output{{Node: evil, Media: "text", Filename: evil, Text: evil}, {Node: evil, Media: evil, Filename: evil, ContentType: evil}},
		Seeds:   map[string]uint64{evil: 1},
	}
	if _, err := job.DecodeEvent(job.Completed, raw(t, event)); err != nil {
		t.Fatal(err) // it would be left out
	}
	answers := hostileAnswers(t, &event)
	for _, subject := range []string{"comfy.api.*", "comfy.tenants.*.>"} {
		if _, err := nc.Subscribe(subject, func(msg *nats.Msg) {
			_ = msg.Respond(answers[msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]]) // a lost answer is a timeout of the asker
		}); err != nil {
			t.Fatal(err)
		}
	}
	letter := nats.NewMsg("comfy.dead.default")
	letter.Header.Set("Comfy-Job-Id", "j1")
	letter.Header.Set("Comfy-Reason", strings.NewReplacer("\r", "", "\n", "").Replace(evil))
	letter.Data = []byte(evil)
	for _, msg := range []*nats.Msg{
		letter,
		{Subject: "comfy.append.jobs." + evilToken + "." + evilToken + "." + evilToken, Data: raw(t, event)},
		{Subject: "comfy.append.jobs.default.j1.queued", Data: raw(t, event)},
		{Subject: "comfy.append.blocks." + evilToken + "." + evilToken + ".blocked", Data: raw(t, map[string]any{"kind": evil, "message": evil, "tenants": []string{evil}, "cause": evil})},
		{Subject: "comfy.append.hosts." + evilToken + "." + evilToken, Data: raw(t, filled[queue.HostEvent]())},
		{Subject: "comfy.append.jobs.default.j1.completed", Data: raw(t, event)},
		{Subject: "$KV.COMFY_BLOCKS.gpu-1." + strings.Repeat("0f", 32), Data: raw(t, map[string]any{
			"kind": "execution_error", "message": evil, "tenants": []string{evil}, "job": evil, "until": time.Now().Add(time.Hour),
		})},
	} {
		if _, err := nc.RequestMsg(msg, testTimeout); err != nil {
			t.Fatal(err)
		}
	}
	return server.URL()
}

// hostileAnswers are the dispatchers' answers by the name of the call.
func hostileAnswers(t *testing.T, event *job.Event) map[string][]byte {
	t.Helper()
	whole := filled[job.Event]()
	whole.Tenant = "default"
	whole.Outputs[0].Object, whole.Outputs[0].Media = "", "text" // which is in the event
	status, why, jobs, lanes := filled[jetstream.JobStatus](), filled[jetstream.WhyAnswer](), filled[jetstream.JobsAnswer](), filled[jetstream.QueueAnswer]()
	hosts, affinity, tenants := filled[queue.HostsAnswer](), filled[queue.AffinityAnswer](), filled[queue.TenantsAnswer]()
	why.Next, jobs.Next, lanes.Next, hosts.Next, affinity.Next, tenants.Next = "", 0, 0, "", "", ""
	status.State, status.Event = job.Completed, whole
	status.Events[0].Subject, status.Events[0].Event = "comfy.events.jobs.default.j1."+evil, whole
	cancel := jetstream.CancelAnswer{Job: "j1", State: job.EventKind(evil), Event: &whole}
	dead := jetstream.DeadAnswer{Dead: []job.Event{whole}}
	requeue := jetstream.RequeueAnswer{Count: 1, Jobs: map[job.ID]job.ID{"j1": evil}}
	events := map[string]any{"events": []any{map[string]any{
		"sequence": 1, "subject": "comfy.events.jobs.default.j1.completed", "time": time.Now(), "event": event,
	}}, "next": 1, "end": true, "made": time.Now()}
	answers := map[string][]byte{}
	for name, answer := range map[string]any{
		"status": status, "why": why, "cancel": cancel, "jobs": jobs, "dead": dead, "requeue": requeue, "queue": lanes, "events": events,
		"hosts": hosts, "affinity": affinity, "tenants": tenants, "unblock": queue.CountAnswer{},
		"drain": filled[queue.DrainAnswer](),
	} {
		answers[name] = raw(t, answer)
	}
	return answers
}

func TestNothingThatOthersWriteSteersTheTerminal(t *testing.T) {
	t.Parallel()
	url := startHostile(t)
	for _, args := range [][]string{
		{"status", "j1"}, {"why", "j1"}, {"queue"}, {"queue", "--tenant=default"}, {"jobs"}, {"hosts"}, {"blocks"}, {"affinity"}, {"tenants"}, {"dead"},
		{"dead", "show", "j1"}, {"cancel", "j1"}, {"wait", "j1", "--progress"}, {"fetch", "j1", "--out=" + t.TempDir()},
		{"hosts", "drain", "a"}, {"watch", "--all"}, {"watch", "--all", "--tenant=default"}, {"cancel", "nobody/" + evil}, {"watch", "--tenant=" + evil},
		{"submit", "/" + evil}, {"access", "list", t.TempDir() + evil}, {evil}, {"jobs", "--kind=" + evil},
	} {
		for _, form := range [][]string{nil, {"--json"}} {
			all := append(args[:len(args):len(args)], form...)
			if err := commandLine(t).Read(all); form != nil && err != nil {
				continue // the command has no JSON
			}
			text := told(t, url, all, "completed")
			if !strings.Contains(text, "evil") {
				t.Errorf("%q did not tell what there was: %q", all, text)
			}
			if bad := strings.IndexFunc(text, steers); !utf8.ValidString(text) || bad >= 0 {
				t.Errorf("%q printed %q", all, text[max(bad-20, 0):])
			}
		}
	}
}

// steers reports whether a terminal obeys a character.
func steers(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029')
}

// told is all that a command wrote. One that watches is stopped when it has told the last event, of this kind.
func told(t *testing.T, url string, args []string, last string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	out := &ear{heard: func(text string) {
		if args[0] == "watch" && strings.Contains(text, last) {
			cancel()
		}
	}}
	if args[0] != "access" {
		args = append(args[:len(args):len(args)], "--nats-url="+url)
	}
	main.Run(ctx, args, strings.NewReader(""), out, out)
	return out.text()
}

// ear is a writer for several goroutines.
type ear struct {
	heard func(text string)

	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (e *ear) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard(string(p))
	return e.all.Write(p)
}

func (e *ear) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all.String()
}
