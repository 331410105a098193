package main_test

import (
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

func TestAPageThatOthersReachNeedsAPassword(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ args, want string }{
		"Loopback":        {"--dashboard=127.0.0.1:0", ""},
		"Localhost":       {"--dashboard=localhost:8080", ""},
		"Off":             {"--dashboard=off", ""},
		"Everywhere":      {"--dashboard=0.0.0.0:8080", "--dashboard 0.0.0.0:8080 can be reached from other machines"},
		"EveryAddress":    {"--dashboard=:8080", "set COMFYHERD_DASHBOARD_AUTH to a password"},
		"ANetwork":        {"--dashboard=10.0.0.1:8080", "can be reached from other machines"},
		"WithAPassword":   {"--dashboard=:8080 --dashboard-auth=long-enough", ""},
		"WithNone":        {"--dashboard=:8080 --dashboard-auth=none", ""},
		"TooShort":        {"--dashboard=:8080 --dashboard-auth=short", "--dashboard-auth: a secret has 5 characters"},
		"NoAddress":       {"--dashboard=8080", `--dashboard "8080" is not an address; write it like 127.0.0.1:8080`},
		"BehindAProxy":    {"--dashboard=127.0.0.1:8080 --dashboard-url=https://herd.example.com/", "through a proxy"},
		"NoURL":           {"--dashboard=127.0.0.1:8080 --dashboard-url=herd.example.com", "is not an address of a page"},
		"ProxyAndAWord":   {"--dashboard=127.0.0.1:8080 --dashboard-url=https://herd.example.com/ --dashboard-auth=look:long-enough", ""},
		"AnUnknownRole":   {"--dashboard=:8080 --dashboard-auth=boss:long-enough", `"boss" is no role`},
		"ATenantOfAWord":  {"--dashboard=:8080 --dashboard-auth=tenant/acme:long-enough", ""},
		"NotServedAtAll":  {"--dashboard-auth=long-enough", ""},
		"UsedByDashboard": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := main.RunFlags(t.Context(), strings.Fields(tc.args)...)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

var runSaysPage = regexp.MustCompile(`page {6}(http://127\.0\.0\.1:\d+/)`)

// lines passes on what is said until it has the address of a page.
type lines struct{ found chan string }

func (l *lines) Write(p []byte) (int, error) {
	if match := runSaysPage.FindSubmatch(p); match != nil {
		l.found <- string(match[1])
	}
	return len(p), nil
}

// serving runs a command until its page is said, and stops it with the test.
func serving(t *testing.T, args ...string) (address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := &lines{make(chan string, 1)}, make(chan int, 1)
	go func() { ended <- main.Run(ctx, args, nil, io.Discard, out) }()
	select {
	case address = <-out.found:
	case code := <-ended:
		t.Errorf("%v ended with %d", args, code)
		ended <- code
	}
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return address
}

func TestThePageRunsBesideADispatcherAndAlone(t *testing.T) {
	t.Parallel()
	f := startAlone(t)
	beside := serving(t, "run", "--nats-url="+f.url, "--dashboard=127.0.0.1:0", "--log-level=error")
	alone := serving(t, "dashboard", "--nats-url="+f.url, "--dashboard=127.0.0.1:0", "--log-level=error")
	for _, address := range []string{beside, alone} {
		if shell, err := get(address); err != nil || !strings.Contains(shell, "page.js") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestATakenPortStopsNoDispatcher(t *testing.T) {
	t.Parallel()
	f := startAlone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f.expect(t, 1, []string{"dashboard", "--dashboard=" + l.Addr().String()}, "is taken; choose another address with --dashboard")
	ctx, cancel := context.WithCancel(t.Context())
	said := &until{word: "stop      Ctrl-C", stop: cancel}
	if code := main.Run(ctx, []string{"run", "--nats-url=" + f.url, "--dashboard=" + l.Addr().String(), "--log-level=error"}, nil, io.Discard, said); code != 0 {
		t.Errorf("code %d", code)
	}
	if !strings.Contains(said.said(), "page      none: "+l.Addr().String()+" is taken") {
		t.Errorf("said %s", said.said())
	}
}

// until stops a command when a word is said.
type until struct {
	word string
	stop func()
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (u *until) said() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.text.String()
}

func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.text.Write(p)
	if strings.Contains(u.text.String(), u.word) {
		u.stop()
	}
	return len(p), nil
}
