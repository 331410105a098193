package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

func TestACallThatNobodyAnswersEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	if acme.Tenant() != "acme" {
		t.Errorf("it acts for %s", acme.Tenant())
	}
	var leave context.CancelFunc
	for _, call := range []string{"queue", "requeue"} {
		answerAll(t, url, "comfy.tenants.acme."+call, func(*nats.Msg) { leave() })
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leave = cancel
	if _, err := acme.Queue(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "ask the dispatchers on comfy.tenants.acme.queue") {
		t.Errorf("a call that may be repeated: %v", err)
	}
	second, cancelSecond := context.WithCancel(t.Context())
	defer cancelSecond()
	leave = cancelSecond
	if _, err := acme.Requeue(second, jetstream.RequeueRequest{All: true}); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "comfy.tenants.acme.requeue") {
		t.Errorf("one that may not: %v", err)
	}
}

func TestWhatCannotBeEncodedIsNotSent(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	for _, subject := range []string{"comfy.tenants.acme.>", "comfy.jobs.acme.>"} {
		answerAll(t, url, subject, func(msg *nats.Msg) { t.Errorf("%s was sent", msg.Subject) })
	}
	broken := json.RawMessage("{")
	spec := jetstream.Spec{ID: "a", Workflow: []byte(workflow), Metadata: broken}
	for name, send := range map[string]func() error{
		"Why":         func() error { _, err := acme.Why(t.Context(), jetstream.WhyRequest{Workflow: broken}); return err },
		"Submit":      func() error { _, err := acme.Submit(t.Context(), 5, spec); return err },
		"ByReference": func() error { _, err := acme.ByReference(t.Context(), spec); return err },
	} {
		if err := send(); err == nil || errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPublishWithoutAnAnswerLeavesOpenWhetherItWasStored(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answerAll(t, url, "comfy.jobs.acme.5", func(*nats.Msg) { cancel() })
	_, err := acme.Submit(ctx, 5, jetstream.Spec{Workflow: []byte(workflow)})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "publish to comfy.jobs.acme.5") {
		t.Errorf("%v", err)
	}
	for _, is := range []error{jetstream.ErrLaneFull, jetstream.ErrNoSpace, jetstream.ErrTooLarge} {
		if errors.Is(err, is) {
			t.Errorf("it says that nothing was stored: %v", err)
		}
	}
}

func TestProgressNeedsATenantAndAConnection(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	err := jetstream.NewClient(nc, "a.b").FollowProgress(t.Context(), nil)
	if _, bad := errors.AsType[*jetstream.BadRequest](err); !bad {
		t.Errorf("of a name that is no tenant's: %v", err)
	}
	nc.Close()
	if err := jetstream.NewClient(nc, "acme").FollowProgress(t.Context(), nil); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
}

func TestProgressThatIsFollowedNoLongerIsNotReceived(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := jetstream.NewClient(nc, "acme").FollowProgress(ctx, nil); !errors.Is(err, context.Canceled) || nc.NumSubscriptions() != 0 {
		t.Errorf("%d subscriptions are left: %v", nc.NumSubscriptions(), err)
	}
}

// A file may be removed while it is read: the error is given at the place up to which it was read, again and again.
func TestAFileThatIsRemovedWhileItIsReadEndsThere(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		answer := nats.NewMsg(msg.Reply)
		if r.Offset > 0 {
			answer.Header = nats.Header{"Nats-Service-Error": {"it was removed"}, "Nats-Service-Error-Code": {"404"}}
		} else {
			answer.Header = nats.Header{"Comfy-File-Size": {strconv.Itoa(len(longFile))}, "Comfy-Offset": {"0"}, "Comfy-File-Digest": {digestOf(longFile)}}
			answer.Data = longFile[:1000]
		}
		must(0, msg.RespondMsg(answer))
	})
	r, _, err := jetstream.NewClient(connect(t, url), "acme").OpenFile(t.Context(), "acme/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for wants := 1000; wants >= 0; wants -= 1000 {
		body, err := io.ReadAll(r)
		if _, gone := errors.AsType[*jetstream.NotFound](err); !gone || len(body) != wants {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	}
}

func TestARequeueWithAConditionIsNarrow(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]jetstream.RequeueRequest{
		"Tenant": {Tenant: "a"}, "Job": {Job: "a"}, "Hash": {Hash: "a"}, "Kind": {Kind: "a"}, "Reason": {Reason: "a"}, "Since": {Since: "1h"}, "Signature": {Signature: "a"},
	} {
		if !r.Narrow() {
			t.Errorf("%s is no condition", name)
		}
	}
	wide := jetstream.RequeueRequest{All: true, After: 1, UpTo: 2, Limit: 3, Again: true, By: "me", OnlyHosts: []string{"a"}, ExtraData: []byte("{}")}
	if wide.Narrow() {
		t.Error("a request without a condition has one")
	}
}

func TestARowOfAnEventHasTheKindOfItsSubject(t *testing.T) {
	t.Parallel()
	var r jetstream.EventRow
	if err := json.Unmarshal([]byte(`{"sequence":7,"subject":"comfy.events.jobs.acme.a.dead","event":{"job":"a","tenant":"acme"}}`), &r); err != nil || r.Event.EventKind != jetstream.JobDead || r.Sequence != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := json.Unmarshal([]byte(`{"sequence":"x"}`), &r); err == nil {
		t.Error("a row of another form is read")
	}
}

func TestTheOutcomesOfATryAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	got := ""
	for _, o := range jetstream.Outcomes() {
		got += string(o) + " "
	}
	if got != "delivered failed gave_up disabled dropped " {
		t.Error(got)
	}
}

// Whole pieces are asked for at the same time, so that a slow answer does not hold up the others.
func TestPiecesOfAFileAreAskedForAhead(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	size := 6 * jetstream.FileChunkSize
	asked := make(chan int64, 10)
	release := make(chan struct{})
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		asked <- r.Offset
		go func() {
			if r.Offset > 0 {
				<-release
			}
			answer := nats.NewMsg(msg.Reply)
			answer.Header = nats.Header{"Comfy-File-Size": {strconv.Itoa(size)}, "Comfy-Offset": {strconv.FormatInt(r.Offset, 10)}}
			answer.Data = make([]byte, jetstream.FileChunkSize)
			_ = msg.RespondMsg(answer)
		}()
	})
	r, _, err := jetstream.NewClient(connect(t, url), "acme").OpenFile(t.Context(), "acme/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, r, int64(jetstream.FileChunkSize)+1)
		read <- err
	}()
	var first int64
	for range 5 { // the first one, and four ahead
		select {
		case at := <-asked:
			first += at / jetstream.FileChunkSize
		case <-time.After(time.Minute):
			t.Fatal("a piece is not asked for")
		}
	}
	if first != 0+1+2+3+4 || len(asked) != 0 {
		t.Errorf("the pieces' places are %d in all, and %d more were asked for", first, len(asked))
	}
	close(release)
	if err := <-read; err != nil {
		t.Error(err)
	}
	must(0, r.Close())
}

func TestAJobThatMayNotBeSubmittedIsNotSent(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	answerAll(t, url, "comfy.jobs.>", func(msg *nats.Msg) { must(0, msg.Respond([]byte(`{"stream":"COMFY_JOBS","seq":1}`))) })
	for name, c := range map[string]struct {
		tenant jetstream.Tenant
		p      jetstream.Priority
		id     jetstream.ID
		sent   bool
	}{
		"Lowest":   {"acme", 0, "a", true},
		"Highest":  {"acme", 9, "a", true},
		"TooHigh":  {"acme", 10, "a", false},
		"TooLow":   {"acme", -1, "a", false},
		"NoTenant": {"a.b", 5, "a", false},
		"NoID":     {"acme", 5, "a.b", false},
		"IDOfOurs": {"acme", 5, "j-1", false},
	} {
		_, err := jetstream.NewClient(nc, c.tenant).Submit(t.Context(), c.p, jetstream.Spec{ID: c.id, Workflow: []byte(workflow)})
		if c.sent {
			must(0, err)
			continue
		}
		if bad, is := errors.AsType[*jetstream.BadRequest](err); !is || !strings.Contains(bad.Message, strconv.Quote(string(c.id))) || !strings.Contains(bad.Message, "a priority is 0 to 9") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARefusalNamesWhatWasWrong(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	acme := jetstream.NewClient(nc, "acme")
	answerAll(t, url, "comfy.tenants.acme.file.put", func(msg *nats.Msg) {
		must(0, msg.RespondMsg(&nats.Msg{Header: nats.Header{"Comfy-Offset": {"77"}}}))
	})
	large := jetstream.CancelRequest{Job: jetstream.ID(strings.Repeat("x", int(nc.MaxPayload())))}
	_, tenantErr := jetstream.NewClient(nc, "a.b").Queue(t.Context())
	_, sizeErr := acme.Cancel(t.Context(), large)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, pieceErr := acme.PutFile(ctx, "acme/a", "", strings.NewReader("abc"))
	for want, err := range map[string]error{
		`"a.b" is no tenant name`: tenantErr, "NATS takes at most 8388608 in a message": sizeErr, `"77" bytes are stored instead of 3`: pieceErr,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestAFileThatIsClosedAlreadyIsNotSent(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	answerAll(t, url, "comfy.tenants.acme.>", func(msg *nats.Msg) { t.Errorf("%s was sent", msg.Subject) })
	f := must(os.Create(filepath.Join(t.TempDir(), "file")))
	must(0, f.Close())
	if _, err := jetstream.NewClient(connect(t, url), "acme").PutFile(t.Context(), "acme/a", "", f); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// Names of files are made of it, and some machines do not tell upper from lower case.
func TestAnIDThatIsNewIsAnIDInLowerCase(t *testing.T) {
	t.Parallel()
	a, b := jetstream.NewID(), jetstream.NewID()
	if a == b || !a.Valid() || strings.ToLower(string(a)) != string(a) {
		t.Errorf("%s and %s", a, b)
	}
}
