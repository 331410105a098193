package agent_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestInputsAreFetchedFromAllowedAddressesOnly(t *testing.T) {
	t.Parallel()
	for policy, allowed := range map[string]map[string]bool{
		"public": {
			"93.184.215.14": true, "8.8.8.8": true, "2606:4700::1111": true, "64:ff9b::808:808": true, "::ffff:8.8.8.8": true, "2002:808:808::1": true,
			"127.0.0.1": false, "127.255.0.9": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
			"169.254.169.254": false, "100.64.0.1": false, "100.100.100.200": false, "168.63.129.16": false, "192.0.0.192": false, "198.18.0.1": false,
			"192.0.2.7": false, "203.0.113.7": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
			"::1": false, "::": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b::7f00:1": false,
			"64:ff9b:1::1": false, "2002:7f00:1::1": false, "2002:a00:1::": false, "2001:0:1::1": false, "2001:db8::1": false, "fd00:ec2::254": false,
			"fc00::1": false, "fe80::1": false, "fe80::1%eth0": false, "ff02::1": false, "fec0::1": false,
		},
		"none":                      {"93.184.215.14": false, "127.0.0.1": false},
		"any":                       {"93.184.215.14": true, "127.0.0.1": true, "169.254.169.254": true},
		"10.0.0.0/8":                {"10.9.9.9": true, "::ffff:10.9.9.9": true, "64:ff9b::a00:1": true, "8.8.8.8": false, "11.0.0.1": false},
		"public,10.0.0.7, fd00::/8": {"10.0.0.7": true, "10.0.0.8": false, "8.8.8.8": true, "fd00::1": true, "127.0.0.1": false},
	} {
		for address, want := range allowed {
			if got, err := agent.Allows(policy, address); got != want || err != nil {
				t.Errorf("%s: %s is allowed: %t, %v", policy, address, got, err)
			}
		}
	}
	for _, policy := range []string{"private", "none,public", "any,10.0.0.0/8", "10.0.0.0/33", "fe80::%eth0/10", ",", "10.0.0.0/8,"} {
		if _, err := agent.Allows(policy, "8.8.8.8"); err == nil || !strings.Contains(err.Error(), "use none, public, any, or ranges") {
			t.Errorf("%q: %v", policy, err)
		}
	}
}

// A redirect leads from an allowed address to one that is not, and neither tells the publisher what is there.
func TestARedirectIsNoWayToAnotherAddress(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 10)
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- r.URL.Path
		_, _ = io.WriteString(w, "secret")
	}))
	t.Cleanup(secret.Close)
	client, err := agent.NewFetcher("public", func(*http.Request) (*url.URL, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{secret.URL, strings.Replace(secret.URL, "127.0.0.1", "localhost", 1), strings.Replace(secret.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		if response, err := client.Get(address); err == nil {
			response.Body.Close()
			t.Errorf("%s was fetched", address)
		}
	}
	h := start(t, agent.Config{InputURLs: "127.0.0.1"})
	door := httptest.NewServer(http.RedirectHandler("http://127.0.0.2:9/inside", http.StatusFound))
	t.Cleanup(door.Close)
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", URL: door.URL}}})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.Transient || e.Message != "input image of node 10: the input's url could not be fetched; the log of the host's agent says why" {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	if n := len(reached); n != 0 {
		t.Errorf("%d requests have reached what is not allowed", n)
	}
}

// Through a proxy the address of the file counts, and not that of the proxy, which is the operator's.
func TestAProxyIsNoWayToAnotherAddress(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.String() }))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := agent.NewFetcher("public", func(*http.Request) (*url.URL, error) { return at, nil })
	if err != nil {
		t.Fatal(err)
	}
	if response, err := client.Get("http://10.0.0.1/secret"); err == nil {
		response.Body.Close()
		t.Error("a private address was fetched through the proxy")
	}
	response, err := client.Get("http://93.184.215.14/cat.png")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got := <-asked; got != "http://93.184.215.14/cat.png" || len(asked) != 0 {
		t.Errorf("the proxy was asked for %s", got)
	}
}

// A picture of another job lies in ComfyUI's folders, and anybody who knows its prompt's id can name it.
func TestAWorkflowThatNamesAnotherJobsFileIsRefused(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	stolen := strings.Replace(loads, "x.png", "comfyherd/23c1b2d5-aa3c-8efb-9547-6f49092808b8/ComfyUI_00001_.png [output]", 1)
	o := h.queued(job.Spec{ID: "thief", Workflow: json.RawMessage(stolen)})
	h.accepted(o)
	e := h.event(o, job.Failed)
	want := `input image of node 10 names a file below comfyherd/, where each job has its own files only; to use a file, give it in "inputs"`
	if e.Kind != failure.InvalidWorkflow || e.Message != want {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	h.wantChain(o, "queued failed")

	again := h.queued(job.Spec{ID: "again", Workflow: json.RawMessage(stolen), Inputs: []job.Input{{Node: "10", Input: "image", URL: "data:,cat"}}})
	h.accepted(again)
	p := await(h, h.fake.posted, "the POST of a job that brings its own file")
	if strings.Contains(string(p.Workflow), "23c1b2d5") {
		t.Errorf("it was posted as %s", p.Workflow)
	}
}

// An error before or at the proxy says what has failed.
func TestAFetchThroughAProxySaysWhatFailed(t *testing.T) {
	t.Parallel()
	reached := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(reached.Close)
	at, err := url.Parse(reached.URL)
	if err != nil {
		t.Fatal(err)
	}
	through := func(*http.Request) (*url.URL, error) { return at, nil }
	for name, c := range map[string]struct {
		policy, address string
		proxy           func(*http.Request) (*url.URL, error)
		want            string // empty: it is fetched
	}{
		"Any":           {"any", "http://10.0.0.1/x", through, ""},
		"Private":       {"public", "http://10.0.0.1/x", through, "10.0.0.1 is 10.0.0.1: connections to this address are not allowed (--input-urls)"},
		"NoSuchName":    {"public", "http://nowhere.invalid/x", through, "look up nowhere.invalid for the proxy: "},
		"ProxyIsNoURL":  {"any", "http://10.0.0.1/x", func(*http.Request) (*url.URL, error) { return nil, errors.New("no proxy like this") }, "read the proxy's address: no proxy like this"},
		"WithoutAProxy": {"public", "http://127.0.0.1:1/x", func(*http.Request) (*url.URL, error) { return nil, nil }, "127.0.0.1:1: connections to this address are not allowed (--input-urls)"},
	} {
		client, err := agent.NewFetcher(c.policy, c.proxy)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Get(c.address)
		if err == nil {
			response.Body.Close()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
