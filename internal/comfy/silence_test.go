package comfy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestASilentComfyUIIsWaitedForLongerThanADeadOne(t *testing.T) {
	t.Parallel()
	o := quick()
	o.FreezeTimeout, o.SilentTimeout = 300*time.Millisecond, testTimeout
	r := simulateWith(t, comfysim.Config{}, o)
	p := sleep(0.2, 2)
	ended := r.begin(p)
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultSlowInfo, For: 2 * time.Second, Times: 1})
	other, err := http.Get(r.sim.URL() + "/object_info") // somebody opens ComfyUI's page
	if err != nil {
		t.Fatal(err)
	}
	other.Body.Close()
	if o := <-ended; o.err != nil {
		t.Errorf("ends as %v", o.err)
	}
}

func TestAComfyUIThatStaysSilentIsLost(t *testing.T) {
	t.Parallel()
	o := quick()
	o.FreezeTimeout, o.SilentTimeout = 300*time.Millisecond, time.Second
	r := simulateWith(t, comfysim.Config{}, o)
	p := sleep(60, 100)
	ended := r.begin(p)
	r.until(r.runs(p.ID))
	r.sim.Freeze()
	f := failure.As((<-ended).err)
	r.sim.Thaw()
	if f == nil || f.Kind != failure.HostLost || !strings.Contains(f.Message, "no answer for 1s although its port takes connections") {
		t.Errorf("ends as %v", f)
	}
}

// gateway answers for a ComfyUI that is not there, on a port that takes connections.
func TestAGatewayBeforeADeadComfyUIIsNoLife(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable} {
		dead := atomic.Bool{}
		server := routes{
			"POST /prompt": func(w http.ResponseWriter, r *http.Request) { accepts(promptID)(w, r); dead.Store(true) },
		}
		o := quick()
		o.FreezeTimeout, o.SilentTimeout = 300*time.Millisecond, testTimeout
		host := serveWith(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if dead.Load() {
				says(status, "<html>")(w, r)
				return
			}
			server.ServeHTTP(w, r)
		}), o)
		_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
		if f := failure.As(err); f == nil || f.Kind != failure.HostLost || !strings.Contains(f.Message, "no answer for 300ms") {
			t.Errorf("behind a %d it ends as %v", status, err)
		}
	}
}

func TestNoLimitRunsBesideOurOwnReadingOfTheObjectInfo(t *testing.T) {
	t.Parallel()
	o := quick()
	o.FreezeTimeout, o.SilentTimeout = 1500*time.Millisecond, 1500*time.Millisecond
	r := simulateWith(t, comfysim.Config{}, o)
	p := sleep(6, 0)
	ended := r.begin(p)
	r.until(r.runs(p.ID))
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultSlowInfo, For: 4 * time.Second, Times: 1})
	if _, err := r.host.Capability(within(t), nil); err != nil {
		t.Error(err)
	}
	if o := <-ended; o.err != nil {
		t.Errorf("ends as %v", o.err)
	}
}

func TestOnlyARefusedPortIsADeadComfyUI(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return fmt.Errorf("look: %w", &net.OpError{Op: "dial", Net: "tcp", Err: err}) }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"Refused":      {dial(syscall.ECONNREFUSED), true},
		"NoSuchHost":   {dial(&net.DNSError{Err: "no such host", Name: "gpu1", IsNotFound: true}), false},
		"TooManyFiles": {dial(syscall.EMFILE), false},
		"NoRoute":      {dial(syscall.EHOSTUNREACH), false},
		"NoAddress":    {dial(syscall.EADDRNOTAVAIL), false},
		"Timeout":      {dial(context.DeadlineExceeded), false},
		"Reset":        {&net.OpError{Op: "read", Err: syscall.ECONNREFUSED}, false},
		"Other":        {errors.New("connection refused"), false},
	} {
		if got := comfy.Refused(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestALostPromptTellsWhichNodeRanAndHowFar(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]comfy.Prompt{"WithProgress": sleep(60, 600), "Without": sleep(60, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{})
			at := make(chan comfy.Progress, 100)
			ended := make(chan error, 1)
			ctx := within(t)
			go func() {
				_, err := r.host.Run(ctx, p, comfy.Watch{Progress: func(g comfy.Progress) {
					if g.Node == "2" && (g.Value >= 2 || name == "Without") {
						select {
						case at <- g:
						default:
						}
					}
				}})
				ended <- err
			}()
			<-at
			r.sim.Kill()
			f := failure.As(<-ended)
			if f == nil || f.Kind != failure.HostLost || f.Node != "2" || f.Class != "SimSleep" || f.NodeRan <= 0 || f.Proven {
				t.Fatalf("%+v", f)
			}
			if name == "WithProgress" && (f.Progress < 2.0/600 || f.Progress > 0.5) || name == "Without" && f.Progress != 0 {
				t.Errorf("it was at %v", f.Progress)
			}
		})
	}
}
