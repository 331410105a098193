package comfy_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestOptionsHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	type times struct{ Freeze, Silent, Poll, Ping, Quiet, Stuck time.Duration }
	of := func(o comfy.Options) times {
		return times{o.FreezeTimeout, o.SilentTimeout, o.PollInterval, o.PingInterval, o.QuietTime, o.StuckTime}
	}
	for name, c := range map[string]struct {
		given comfy.Options
		want  times
	}{
		"None": {comfy.Options{}, times{15 * time.Second, 2 * time.Minute, time.Second, 15 * time.Second, 5 * time.Second, 15 * time.Second}},
		"All": {
			comfy.Options{FreezeTimeout: 9 * time.Second, SilentTimeout: 10 * time.Second, PollInterval: 3, PingInterval: 4, QuietTime: 5, StuckTime: 6},
			times{9 * time.Second, 10 * time.Second, 3, 4, 5, 6},
		},
		"ShortFreeze": {comfy.Options{FreezeTimeout: 2 * time.Second},
			times{2 * time.Second, 16 * time.Second, 2 * time.Second / 3, 15 * time.Second, 5 * time.Second, 15 * time.Second}},
		"SilentIsNoShorterThanFreeze": {comfy.Options{SilentTimeout: time.Second},
			times{15 * time.Second, 15 * time.Second, time.Second, 15 * time.Second, 5 * time.Second, 15 * time.Second}},
	} {
		same(t, name, of(comfy.Defaults(c.given)), c.want)
	}
}

func TestTimestampsOutOfRangeAreNoTimes(t *testing.T) {
	t.Parallel()
	for milliseconds, want := range map[float64]time.Time{
		-1: {}, 0: {}, 1: time.UnixMilli(1), 1.5e12: time.UnixMilli(1_500_000_000_000), 1e15: time.UnixMilli(1_000_000_000_000_000), 1.1e15: {}, 1e300: {},
	} {
		if got := comfy.Moment(milliseconds); !got.Equal(want) {
			t.Errorf("%g is %v, want %v", milliseconds, got, want)
		}
	}
}

func TestNamesOfPicturesAreTakenByEveryFileSystem(t *testing.T) {
	t.Parallel()
	for node, want := range map[string]string{
		"5:2": "5-2", "09AZaz_-": "09AZaz_-", "/:@[`{": "------", "é..": "---", strings.Repeat("9", 41): strings.Repeat("9", 40) + "-",
	} {
		same(t, node, comfy.PlainName(node), want)
	}
}

func TestOnlyThePromptsOwnFolderIsItsOwn(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]bool{
		"comfyherd/" + promptID: true, "comfyherd/" + promptID + "/sub": true, `comfyherd\` + promptID + `\sub`: true, "comfyherd/x/../" + promptID: true,
		"": false, "/": false, "/etc": false, "comfyherd": false, "comfyherd/" + promptID + "x": false, "comfyherd/" + promptID + "/..": false, "x/comfyherd/" + promptID: false,
	} {
		if comfy.InFolder(folder, promptID) != want {
			t.Errorf("%q: %v", folder, !want)
		}
	}
}

func TestTextsOfComfyUIAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"abcd": "abcd", "abcde": "abcd…", "abcéé": "abc…", "é": "é", "日本語": "日…"} {
		same(t, text, comfy.Clip(text, 4), want)
	}
	same(t, "cut at once", comfy.Clip("日本語", 2), "…")
	same(t, "lines", comfy.OneLine(" a\n\tb\x7f \x00c\xff "), "a b c")
	same(t, "long", comfy.OneLine(strings.Repeat("x", 501)), strings.Repeat("x", 500)+"…")
}

// Whatever answers in ComfyUI's place, the error tells the operator what to do about it.
func TestEveryForeignAnswerHasItsAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status           int
		kind, body, want string
	}{
		{401, "", "", "; check user and password of the host in COMFY_HOSTS"},
		{407, "", "", "; check user and password of the host in COMFY_HOSTS"},
		{403, "", "", "; a proxy or firewall before ComfyUI forbids it; let POST requests with any body pass"},
		{404, "", "", "; no ComfyUI is at this address; check host, port and path prefix in COMFY_HOSTS"},
		{405, "", "", "; no ComfyUI is at this address; check host, port and path prefix in COMFY_HOSTS"},
		{300, "", "", ", which points elsewhere; it is a login page or another address; give ComfyUI's own address in COMFY_HOSTS"},
		{399, "", "", ", which points elsewhere; it is a login page or another address; give ComfyUI's own address in COMFY_HOSTS"},
		{413, "", "", "; raise the limit of body sizes of the proxy before ComfyUI"},
		{500, "", "", "; a proxy answers for a ComfyUI that does not"},
		{200, "text/html; charset=utf-8", "please log in", " with a web page; it is a login page or a firewall; let POST requests pass"},
		{400, "TEXT/HTML", "", " with a web page; it is a login page or a firewall; let POST requests pass"},
		{200, "", "\n <html>", " with a web page; it is a login page or a firewall; let POST requests pass"},
		{200, "application/json", "{}", " that is not ComfyUI's; check the proxy or firewall before ComfyUI"},
		{400, "", "x<html>", " that is not ComfyUI's; check the proxy or firewall before ComfyUI"},
	} {
		same(t, fmt.Sprint(c.status, c.kind, c.body), comfy.SaidOf(c.status, c.kind, c.body), fmt.Sprintf("HTTP %d in answer to the POST", c.status)+c.want)
	}
}

func TestTheGatewayOfAFleetIsNoHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{
			"GET /prompt": says(http.StatusOK, `{"exec_info":{"queue_remaining":0},"comfyherd_gateway":true}`),
		}, comfy.Options{})
		if _, err := host.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "this is the gateway of a fleet and no ComfyUI; start ComfyUI on another port") {
			t.Errorf("the probe of a gateway: %v", err)
		}
	})
}

func TestSizesOfMemoryAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for spelt, want := range map[string]uint64{"18446744073709551615": 18446744073709551615, "1.5e10": 15_000_000_000, "0.0": 0, "1.0": 1, "-5": 0, "-5.5": 0, "1e30": 0, `"5"`: 0, "null": 0, "9223372036854775808.0": 0} {
		synctest.Test(t, func(t *testing.T) {
			host, _ := inBubble(t, routes{
				"GET /prompt":       says(http.StatusOK, `{"exec_info": {"queue_remaining": 3}}`),
				"GET /system_stats": says(http.StatusOK, `{"system": {"comfyui_version": "0.33.0", "ram_total": 5, "ram_free": 4}, "devices": [{"name": "gpu", "vram_total": `+spelt+`, "vram_free": 1}, {"name": "other"}]}`),
			}, comfy.Options{})
			got, err := host.Survey(t.Context())
			if err != nil {
				t.Error(err)
			}
			same(t, spelt, got, comfy.Probe{QueueRemaining: 3, Foreign: 3, Version: "0.33.0", Device: "gpu", RAMTotal: 5, RAMFree: 4, VRAMTotal: want, VRAMFree: 1})
		})
	}
}

func TestTheSeedLimitOfAnInputIsItsMaximum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{"GET /object_info": says(http.StatusOK, `{"A": {"input": {"required": {
			"seed": ["INT", {"max": 18446744073709551615}], "three": ["INT", {"max": 5}, "x"], "float": ["FLOAT", {"max": 5}], "open": ["INT", {}], "bare": ["INT"], "five": [5, {"max": 5}], "none": ["INT", null]
		}, "optional": {"less": ["INT", {"max": 7}]}}}}`)}, comfy.Options{})
		type limit struct {
			Most  uint64
			Known bool
		}
		ask := func(input string) limit {
			most, known := host.SeedLimit("A", input)
			return limit{most, known}
		}
		same(t, "before", ask("seed"), limit{})
		if _, err := host.Capability(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for input, want := range map[string]limit{
			"seed": {18446744073709551615, true}, "three": {5, true}, "less": {7, true}, "float": {}, "open": {}, "bare": {}, "five": {}, "none": {}, "other": {},
		} {
			same(t, input, ask(input), want)
		}
	})
}

// An answer that is not ComfyUI's is no answer: the prompt may still be there.
func TestALookThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers routes
		want    string
	}{
		"Queue":           {routes{"GET /queue": says(http.StatusOK, "<html>")}, "read /queue: the answer is not one of ComfyUI's: "},
		"History":         {routes{"GET /history/" + promptID: says(http.StatusOK, "<html>")}, "read /history: the answer is not one of ComfyUI's: "},
		"QueueIsBarred":   {routes{"GET /queue": says(http.StatusForbidden, "")}, "/queue answers HTTP 403 Forbidden"},
		"HistoryIsBarred": {routes{"GET /history/" + promptID: says(http.StatusForbidden, "")}, "/history/" + promptID + " answers HTTP 403 Forbidden"},
		"QueueBreaks":     {routes{"GET /queue": breaks}, `Get "` + address + `/queue": unexpected EOF`},
		"JobAndQueue":     {routes{"GET " + jobPath: says(http.StatusOK, `{"status": "?"}`), "GET /queue": says(http.StatusOK, "<html>")}, "read /queue: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, _ := inBubble(t, c.answers, comfy.Options{})
				if state, err := host.Find(t.Context(), promptID); err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("it is %s, %v", state, err)
				}
			})
		})
	}
}

// A server that lacks the newer route is asked for it once, until its websocket was opened anew.
func TestAnOldServerIsAskedForTheNewRouteOnce(t *testing.T) {
	t.Parallel()
	for name, missing := range map[string]http.HandlerFunc{"NotFound": says(http.StatusNotFound, "404: Not Found"), "NotAllowed": says(http.StatusMethodNotAllowed, ""), "NoReason": says(http.StatusNotFound, "{}")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host, b := inBubble(t, routes{"GET " + jobPath: missing}, comfy.Options{})
				find := func() {
					if state, err := host.Find(t.Context(), promptID); state != comfy.Unknown || err != nil {
						t.Errorf("it is %s, %v", state, err)
					}
				}
				find()
				find()
				same(t, "asked", b.log(), []string{"0s GET " + jobPath, "0s GET /queue", "0s GET /history/" + promptID, "0s GET /queue", "0s GET /history/" + promptID})
				socket, err := comfy.OpenSocket(host)
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Drop()
				find()
				same(t, "asked", b.log(), []string{"0s GET " + jobPath, "0s GET /queue", "0s GET /history/" + promptID})
			})
		})
	}
}

// A ComfyUI whose port takes connections and that gives no answer is busy, and is waited for longer than one that is gone.
func TestASilentHostIsGivenUpByWhetherItsPortTakesConnections(t *testing.T) {
	t.Parallel()
	answers := func() routes {
		return routes{"POST /prompt": accepts(promptID), "GET " + jobPath: after(time.Second, job("in_progress"), breaks), "GET /internal/logs/raw": breaks}
	}
	t.Run("Refuses", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := runs(t, answers(), ours, comfy.Watch{}, nil)
			same(t, "failure", *failure.As(r.err), failure.Failure{Kind: failure.HostLost, Message: "ComfyUI gave no answer for 15s"})
			same(t, "took", r.took, 15620*time.Millisecond) // after the newest answer
		})
	})
	t.Run("Takes", func(t *testing.T) {
		t.Parallel()
		port, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken, done := make(chan struct{}, 100), make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := port.Accept()
				if err != nil {
					return
				}
				taken <- struct{}{}
				_ = conn.Close()
			}
		}()
		synctest.Test(t, func(t *testing.T) {
			host, _ := inBubbleAt(t, "http://"+port.Addr().String(), answers(), comfy.Options{})
			began := time.Now()
			_, err := host.Run(t.Context(), ours, comfy.Watch{})
			same(t, "failure", *failure.As(err), failure.Failure{Kind: failure.HostLost, Message: "ComfyUI gave no answer for 2m0s although its port takes connections"})
			same(t, "took", time.Since(began), 120620*time.Millisecond)
		})
		for range 23 { // every 5 s from 5.62 s on
			<-taken
		}
		_ = port.Close()
		<-done
		same(t, "further connections", len(taken), 0)
	})
}

func TestPromptsWithoutLimitsAreNotAskedForTheirPlace(t *testing.T) {
	t.Parallel()
	limited := ours
	limited.Start, limited.Total = time.Hour, time.Hour
	for name, c := range map[string]struct {
		prompt comfy.Prompt
		state  string
	}{"Pending": {ours, "pending"}, "Running": {limited, "in_progress"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: after(2*time.Second, job(c.state), jobDone)}, c.prompt, comfy.Watch{}, nil)
				for _, asked := range r.log {
					if strings.HasSuffix(asked, "GET /prompt") || strings.HasSuffix(asked, "GET /queue") {
						t.Error(asked)
					}
				}
			})
		})
	}
}

// Servers from before 0.3.8 end a prompt with the event that no node runs any more.
func TestTheEventThatNoNodeRunsIsAnEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		event string
		looks []string
	}{
		"NoNodeRuns":     {`{"type":"executing","data":{"prompt_id":"` + promptID + `","node":null}}`, []string{"300ms", "320ms"}},
		"ANodeRuns":      {`{"type":"executing","data":{"prompt_id":"` + promptID + `","node":"1"}}`, []string{"1s"}},
		"ProgressOfNone": {`{"type":"progress","data":{"prompt_id":"` + promptID + `","node":null,"value":1,"max":2}}`, []string{"1s"}},
		"StatusOfOthers": {`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}}}}`, []string{"1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: after(310*time.Millisecond, job("in_progress"), jobDone)}, ours, comfy.Watch{}, func(s comfy.Socket) {
					pass(300 * time.Millisecond)
					s.Says(c.event)
				})
				same(t, "looks", r.looks, c.looks)
			})
		})
	}
}

func TestOnlyPicturesThatCameOverTheWebsocketAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := inBubble(t, routes{"POST /prompt": accepts(promptID), "GET " + jobPath: jobDone}, comfy.Options{})
		if _, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil {
			t.Error(err)
		}
		same(t, "kept", comfy.Kept(host), 0)
	})
}

func TestOutputsAreInTheOrderOfTheirNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var outputs []string
		for _, node := range []string{"10", "-b", "9", "009", "c", "+1"} {
			outputs = append(outputs, fmt.Sprintf(`%q: {"images": [{"filename": "a.png", "subfolder": "comfyherd/%s", "type": "output"}]}`, node, promptID))
		}
		done := says(http.StatusOK, `{"status": "completed", "outputs": {`+strings.Join(outputs, ", ")+`}}`)
		r := runs(t, routes{"GET " + jobPath: done}, ours, comfy.Watch{}, nil)
		if r.err != nil {
			t.Fatal(r.err)
		}
		var nodes []string
		for _, o := range r.result.Outputs {
			nodes = append(nodes, o.Node)
		}
		same(t, "nodes", nodes, []string{"009", "9", "10", "+1", "-b", "c"})
	})
}
