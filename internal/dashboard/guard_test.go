package dashboard_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A page elsewhere may point its own name at this machine: the browser then takes both for one site.
func TestThePageAnswersOnlyUnderItsOwnNames(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{URL: must(url.Parse("https://herd.example.com/page/"))})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200, "LOCALHOST": 200, "10.1.2.3": 200, "herd.example.com": 200,
		"herd.example.com:443": 200, "page.localhost": 200, "localhost.": 200,
		"evil.example.com": 421, "127.0.0.1.evil.example.com": 421, "localhost.evil.example.com:8080": 421, "notlocalhost": 421, "herd.example.com.evil": 421,
	} {
		got := s.ask(http.MethodGet, "/", "", func(r *http.Request) { r.Host = host })
		if got.code != want {
			t.Errorf("%s: %d, want %d", host, got.code, want)
		}
	}
}

func TestOtherPagesCanChangeNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	for site, want := range map[string]bool{"cross-site": true, "same-site": true, "same-origin": false, "none": false} {
		got := s.ask(http.MethodPost, "/api/v1/never", "{}", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
		if (got.code == http.StatusForbidden) != want {
			t.Errorf("%s: %d", site, got.code)
		}
	}
	got := s.ask(http.MethodPost, "/api/v1/never", "{}", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") })
	if got.code != http.StatusForbidden {
		t.Errorf("another origin: %d", got.code)
	}
}

// Over plain HTTP a browser names its origin alone, and a proxy may replace the name of the host by the page's own address.
func TestAPageBehindAProxyTakesChanges(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{URL: must(url.Parse("http://herd.lan/page/"))})
	for origin, want := range map[string]int{"http://herd.lan": 404, "http://herd.lan:8080": 403, "https://herd.lan": 403, "http://evil.lan": 403, "null": 403} {
		got := s.ask(http.MethodPost, "/api/v1/never", "{}", func(r *http.Request) { r.Header.Set("Origin", origin) })
		if got.code != want {
			t.Errorf("%s: %d, want %d", origin, got.code, want)
		}
	}
}

func TestKeysAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "correct-horse": "", "look:guests-word, act:operators": "", "tenant/acme:acmes-word": "", " , ": "",
		"short": "a secret has 5 characters", "boss:secret-word": `"boss" is no role`, "tenant:secret-word": `"tenant" is no role`,
		"tenant/a b:secret-word": `"tenant/a b" is no role`, "look:": "a secret has 0 characters",
	} {
		keys, err := dashboard.ParseKeys(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, keys, err)
		}
	}
}

// timed keeps the deadlines of a connection.
type timed struct {
	*httptest.ResponseRecorder
	reads, writes time.Time
}

func (w *timed) SetReadDeadline(t time.Time) error {
	w.reads = t
	return nil
}

func (w *timed) SetWriteDeadline(t time.Time) error {
	w.writes = t
	return nil
}

// Whoever sends the beginning of a request keeps a connection open as long as its body may take, also without a password.
func TestABodyMustComeInTime(t *testing.T) {
	t.Parallel()
	d := must(dashboard.New(nil, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets))}))
	for name, tc := range map[string]struct {
		method, path, body string
		want               bool
	}{
		"ALogin": {http.MethodPost, "/login", "secret=x", true}, "ACall": {http.MethodPost, "/api/v1/jobs", "{}", true},
		"ABodyOfALink": {http.MethodGet, "/login", "x", true}, "AStream": {http.MethodGet, "/live", "", false},
	} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		d.Handler().ServeHTTP(w, httptest.NewRequest(tc.method, "http://localhost"+tc.path, strings.NewReader(tc.body)))
		if w.reads.IsZero() == tc.want || w.writes.IsZero() {
			t.Errorf("%s: read until %v, written until %v", name, w.reads, w.writes)
		}
	}
}

const secrets = "operators-word,look:guests-word,tenant/roles:roles-word"

func TestEachRoleDoesWhatItMay(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets))})
	for name, tc := range map[string]struct {
		secret, method, call, body string
		want                       int // 503: passed on, and no dispatcher answers
	}{
		"NobodyLooks":                {"", "POST", "hosts", "{}", 401},
		"AWrongWord":                 {"guests-wort", "POST", "hosts", "{}", 401},
		"ALookerLooks":               {"guests-word", "POST", "hosts", "{}", 503},
		"ALookerListsTenants":        {"guests-word", "POST", "tenants", `{"limit":5,"after":"a"}`, 503},
		"ALookerChangesNoTenant":     {"guests-word", "POST", "tenants", `{"tenant":"a","weight":2}`, 403},
		"ALookerChangesNoRule":       {"guests-word", "POST", "affinity", `{"hash":"aa","remove":true}`, 403},
		"ALookerCancelsNothing":      {"guests-word", "POST", "cancel", `{"tenant":"a","job":"b"}`, 403},
		"AnOperatorDrains":           {"operators-word", "POST", "drain", `{"host":"a"}`, 503},
		"AnOperatorDrainsByNoLink":   {"operators-word", "GET", "drain", "", 405},
		"NobodyPurgesFromHere":       {"operators-word", "POST", "purge", `{"all":true}`, 404},
		"NobodyCallsWhatIsNoCall":    {"operators-word", "POST", "nothing", "{}", 404},
		"ATenantSeesItsJobs":         {"roles-word", "POST", "jobs", "{}", 503},
		"ATenantSeesNoHosts":         {"roles-word", "POST", "hosts", "{}", 404},
		"ATenantChangesNoSettings":   {"roles-word", "POST", "tenants", `{"tenant":"roles","weight":9}`, 404},
		"ATenantSeesItsWebhooks":     {"roles-word", "POST", "webhooks", "{}", 503},
		"ATenantSetsNoWebhookHere":   {"roles-word", "POST", "webhooks.set", `{"name":"a"}`, 404},
		"ALookerTestsNoWebhook":      {"guests-word", "POST", "webhooks.test", `{"tenant":"a","name":"b"}`, 403},
		"ARequestThatIsNoObject":     {"operators-word", "POST", "hosts", "[1]", 400},
		"ARequestThatIsNull":         {"operators-word", "POST", "drain", "null", 503},
		"ARequestThatIsNoJSONAtAll":  {"operators-word", "POST", "hosts", "hosts", 400},
		"ARequestThatIsMuchTooLarge": {"operators-word", "POST", "hosts", `{"a":"` + strings.Repeat("x", 3<<20) + `"}`, 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Not those calls that another test of this file serves: they would answer here.
			got := s.ask(tc.method, "/api/v1/"+tc.call, tc.body, func(r *http.Request) {
				if tc.secret != "" {
					r.Header.Set("Authorization", "Bearer "+tc.secret)
				}
			})
			if got.code != tc.want || !strings.HasPrefix(got.body, `{"error":"`) {
				t.Errorf("%d, want %d: %s", got.code, tc.want, got.body)
			}
		})
	}
}

func TestALoginLastsAndEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets)), URL: must(url.Parse("https://herd.example.com/page/"))})
	first := s.ask(http.MethodGet, "/", "", nil)
	if first.code != http.StatusSeeOther || first.header.Get("Location") != "login" {
		t.Fatalf("without a login: %d to %q", first.code, first.header.Get("Location"))
	}
	if form := s.ask(http.MethodGet, "/login", "", nil); form.code != http.StatusOK || !strings.Contains(form.body, `type="password"`) {
		t.Errorf("the form: %d %s", form.code, form.body)
	}
	typed := func(secret string) reply {
		return s.ask(http.MethodPost, "/login", url.Values{"secret": {secret}}.Encode(), func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		})
	}
	if wrong := typed("something"); wrong.code != http.StatusForbidden || wrong.header.Get("Set-Cookie") != "" || !strings.Contains(wrong.body, "not known") {
		t.Errorf("a wrong password: %d", wrong.code)
	}
	right := typed("guests-word")
	cookie := right.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	if strings.Contains(cookie, "guests-word") {
		t.Error("the cookie has the password in it")
	}
	value, _, _ := strings.Cut(cookie, ";")
	with := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Cookie", value) }
	}
	if in := s.ask(http.MethodGet, "/", "", with(value)); in.code != http.StatusOK {
		t.Errorf("with the cookie: %d", in.code)
	}
	if act := s.ask(http.MethodPost, "/api/v1/cancel", `{"tenant":"a","job":"b"}`, with(value)); act.code != http.StatusForbidden {
		t.Errorf("a looker cancels: %d", act.code)
	}
	elsewhere := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets))})
	if in := elsewhere.ask(http.MethodGet, "/", "", with(value)); in.code != http.StatusOK {
		t.Errorf("at another dashboard with the same secrets: %d", in.code)
	}
	changed := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("look:guests-other-word"))})
	for name, other := range map[string]string{"of another secret": value, "cut": value[:len(value)-1], "made up": "comfyherd=zzzzzz.00"} {
		if in := changed.ask(http.MethodGet, "/", "", with(other)); in.code != http.StatusSeeOther {
			t.Errorf("a cookie %s: %d", name, in.code)
		}
	}
	if out := s.ask(http.MethodPost, "/logout", "", with(value)); !strings.Contains(out.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("log out: %v", out.header)
	}
}

func TestPasswordsCannotBeGuessed(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets))})
	for range 20 {
		s.ask(http.MethodPost, "/api/v1/hosts", "{}", bearer("guess"))
	}
	if got := s.ask(http.MethodPost, "/api/v1/hosts", "{}", bearer("operators-word")); got.code != http.StatusUnauthorized {
		t.Errorf("the right word after 20 wrong ones: %d", got.code)
	}
	got := s.ask(http.MethodPost, "/login", "secret=operators-word", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") })
	if got.code != http.StatusTooManyRequests || !strings.Contains(got.body, "Wait a minute") {
		t.Errorf("a login: %d %s", got.code, got.body)
	}
}

// together is a body that comes when the requests of all of them have begun.
type together struct {
	begun *sync.WaitGroup
	body  *strings.Reader
	first sync.Once
}

func (b *together) Read(p []byte) (int, error) {
	b.first.Do(func() {
		b.begun.Done()
		b.begun.Wait()
	})
	return b.body.Read(p)
}

func TestRequestsAtTheSameTimeGuessNoMore(t *testing.T) {
	t.Parallel()
	handler := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys(secrets))}).d.Handler()
	var begun, ended sync.WaitGroup
	begun.Add(30)
	codes := make(chan int, 30)
	for range 30 {
		ended.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/login", &together{begun: &begun, body: strings.NewReader("secret=something")})
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			codes <- w.Code
		})
	}
	ended.Wait()
	close(codes)
	got := map[int]int{}
	for code := range codes {
		got[code]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusForbidden: 20, http.StatusTooManyRequests: 10}, got); diff != "" {
		t.Error(diff)
	}
}

func TestACallIsPassedOnWithTheNameOfItsCaller(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	asked := make(chan string, 8)
	s.answers(map[string]queue.Endpoint{
		"unblock": func(_ context.Context, request []byte) (any, error) {
			asked <- string(request)
			return map[string]int{"count": 2}, nil
		},
		"blocks": func(_ context.Context, request []byte) (any, error) {
			asked <- string(request)
			return nil, &jetstream.Conflict{Message: "it is another one by now"}
		},
	}, nil)
	for len(asked) > 0 {
		<-asked // of the probes
	}
	got := s.ask(http.MethodPost, "/api/v1/unblock", `{"host":"gpu-1","by":"somebody else"}`, func(r *http.Request) { r.Header.Set("Comfy-By", "ada") })
	if want := `{"by":"ada from 127.0.0.1","host":"gpu-1"}`; got.code != http.StatusOK || got.body != `{"count":2}` {
		t.Errorf("%d %s", got.code, got.body)
	} else if sent := <-asked; sent != want {
		t.Errorf("asked %s, want %s", sent, want)
	}
	if got := s.ask(http.MethodPost, "/api/v1/blocks", `{"host":"gpu-2"}`, nil); got.code != http.StatusConflict || got.body != "{\"error\":\"it is another one by now\"}\n" {
		t.Errorf("%d %s", got.code, got.body)
	}
}

// The address is what a viewer cannot choose.
func TestNoNameHidesTheAddressOfACaller(t *testing.T) {
	t.Parallel()
	proxied := dashboard.Config{URL: must(url.Parse("https://herd.example.com/"))}
	for name, tc := range map[string]struct {
		cfg       dashboard.Config
		by        string
		forwarded []string
		want      string
	}{
		"ALongName":             {dashboard.Config{}, strings.Repeat("x", 70), nil, strings.Repeat("x", 49) + " from 127.0.0.1"},
		"ACutLetter":            {dashboard.Config{}, strings.Repeat("x", 48) + "é", nil, strings.Repeat("x", 48) + " from 127.0.0.1"},
		"OtherLetters":          {dashboard.Config{}, "%C5%81ukasz", nil, "Łukasz from 127.0.0.1"},
		"APercentSign":          {dashboard.Config{}, "100% ada", nil, "100% ada from 127.0.0.1"},
		"NoName":                {dashboard.Config{}, " ", nil, "page from 127.0.0.1"},
		"WithoutAProxy":         {dashboard.Config{}, "ada", []string{"10.0.0.1"}, "ada from 127.0.0.1"},
		"OfTheProxy":            {proxied, "ada", []string{"6.6.6.6, 10.0.0.2"}, "ada from 10.0.0.2"},
		"OfALineThatAProxyAdds": {proxied, "ada", []string{"6.6.6.6", "10.0.0.2"}, "ada from 10.0.0.2"},
	} {
		d := must(dashboard.New(nil, tc.cfg))
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.RemoteAddr = "127.0.0.1:4711"
		r.Header.Set("Comfy-By", tc.by)
		r.Header["X-Forwarded-For"] = tc.forwarded
		if got := d.CallerOf(r); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestAnAnswerIsKeptNoLongerThanItIsShared(t *testing.T) {
	t.Parallel()
	if kept := dashboard.SharedAnswers(10); kept != 1 {
		t.Errorf("%d answers are kept, want 1", kept)
	}
}

// An answer that was made before a change would hide it.
func TestWhoHasChangedSomethingIsAnsweredAnew(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/changers:changers-word"))})
	var ended atomic.Bool
	s.answers(nil, map[string]queue.TenantEndpoint{
		"status": queue.TenantJSON(func(context.Context, job.Tenant, jetstream.StatusRequest) (jetstream.JobStatus, error) {
			state := job.Started
			if ended.Load() {
				state = job.Cancelled
			}
			return jetstream.JobStatus{State: state}, nil
		}),
		"cancel": queue.TenantJSON(func(_ context.Context, _ job.Tenant, r jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
			ended.Store(r.Job == "one") // others are probes
			return jetstream.CancelAnswer{}, nil
		}),
	})
	for _, want := range []string{"started", "cancelled"} {
		if got := s.ask(http.MethodPost, "/api/v1/status", `{"job":"one"}`, bearer("changers-word")); !strings.Contains(got.body, `"state":"`+want+`"`) {
			t.Errorf("got %s, want %s", got.body, want)
		}
		if got := s.ask(http.MethodPost, "/api/v1/cancel", `{"job":"one"}`, bearer("changers-word")); got.code != http.StatusOK {
			t.Fatalf("%d %s", got.code, got.body)
		}
	}
}

func TestManyViewersShareAnAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	release := make(chan struct{})
	asked := make(chan struct{}, 64)
	s.answers(nil, map[string]queue.TenantEndpoint{
		"why": queue.TenantJSON(func(_ context.Context, _ job.Tenant, r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
			asked <- struct{}{}
			<-release
			return jetstream.WhyAnswer{Job: r.Job}, nil
		}),
	})
	keys := must(dashboard.ParseKeys("tenant/sharers:sharers-word"))
	page := serve(t, dashboard.Config{Keys: keys})
	replies := make(chan reply, 8)
	for range 8 {
		go func() { replies <- page.ask(http.MethodPost, "/api/v1/why", `{"job":"one"}`, bearer("sharers-word")) }()
	}
	timer := time.NewTimer(testTimeout)
	defer timer.Stop()
	select {
	case <-asked:
	case <-timer.C:
		t.Fatal("nobody was asked")
	}
	close(release)
	for range 8 {
		if got := <-replies; got.code != http.StatusOK || !strings.Contains(got.body, `"job":"one"`) {
			t.Errorf("%d %s", got.code, got.body)
		}
	}
	if len(asked) > 1 { // a second one may ask when it comes after the answer is too old
		t.Errorf("the dispatchers were asked %d more times", len(asked))
	}
}
