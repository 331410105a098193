package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAnswersOfHostsAreUnited(t *testing.T) {
	t.Parallel()
	first, second, wrong := source{body: []byte(`{"en":{"a":1,"n":{"x":"first"},"l":[1]},"de":"text"}`), hosts: 2}, source{
		body: []byte(` {"en":{"n":{"x":"second","y":"both"},"l":[2],"z":null},"de":{"a":1},"fr":{}}`), hosts: 1,
	}, source{body: []byte(`[1]`)}
	for name, c := range map[string]struct {
		unite   func([]source) []byte
		sources []source
		want    string
	}{
		"Deep":    {uniteObjects(deepest), []source{first, wrong, second}, `{"de":"text","en":{"a":1,"l":[1],"n":{"x":"first","y":"both"},"z":null},"fr":{}}`},
		"Shallow": {uniteObjects(1), []source{first, second}, `{"de":"text","en":{"a":1,"n":{"x":"first"},"l":[1]},"fr":{}}`},
		"None":    {uniteObjects(deepest), nil, `{}`},
		"Templates": {uniteTemplates, []source{
			{body: []byte(`{"p":["b","a"],"q":"no list"}`)}, {body: []byte(`{"p":["c","a"],"r":["x"]}`)},
		}, `{"p":["b","a","c"],"r":["x"]}`},
		"SubgraphsOfTheMostHosts": {uniteSubgraphs, []source{
			{body: []byte(`{"1":{"source":"t","name":"s","info":{"node_pack":"p"}},"5":{"source":"t","name":"only"},"6":{"name":""},"7":3}`), hosts: 2},
			{body: []byte(`{"2":{"source":"t","name":"s","info":{"node_pack":"p"},"x":1},"3":{"source":"t","name":"s","info":{"node_pack":"other"}}}`), hosts: 2},
			{body: []byte(`{"2":{"source":"t","name":"s","info":{"node_pack":"p"}}}`), hosts: 1},
		}, `{"2":{"source":"t","name":"s","info":{"node_pack":"p"},"x":1},"3":{"source":"t","name":"s","info":{"node_pack":"other"}},"5":{"source":"t","name":"only"}}`},
	} {
		if got := string(c.unite(c.sources)); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, c.want)
		}
	}
	large := slices.Repeat([]source{{body: make([]byte, mostUnited/2)}}, 3)
	if got := len(bounded(large)); got != 2 {
		t.Errorf("of three answers that are too many %d are united", got)
	}
}

func FuzzUnitedTranslationsAreJSON(f *testing.F) {
	f.Add([]byte(`{"en":{"a":{"b":1}}}`), []byte(`{"en":{"a":{"b":{"c":"<&>"}}}}`))
	f.Add([]byte(`{`), []byte(`null`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, unite := range []func([]source) []byte{uniteObjects(deepest), uniteTemplates, uniteSubgraphs} {
			if got := unite([]source{{body: a}, {body: b}}); !json.Valid(got) {
				t.Errorf("%q", got)
			}
		}
	})
}

// fleetOf has hosts that store these archives of a pack, each at its time.
func fleetOf(digests map[string]string, times map[string]int) *catalogs {
	c := newCatalogs(nil, func() {})
	for host, digest := range digests {
		c.host(queue.Change[queue.Catalog]{Phase: queue.Put, Key: host, Value: queue.Catalog{
			Host: host, Blobs: map[string]string{"extensions/p/": digest, "object_info": "x"}, Time: time.Unix(int64(times[host]), 0),
		}})
	}
	return c
}

func TestAllGatewaysChooseTheSameVersionOfAPack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		digests map[string]string
		times   map[string]int
		want    string
	}{
		"OfMostHosts": {map[string]string{"a": "one", "b": "two", "c": "two"}, map[string]int{"a": 9}, "two"},
		"Newest":      {map[string]string{"a": "one", "b": "two"}, map[string]int{"a": 9}, "one"},
		"Alike":       {map[string]string{"a": "two", "b": "one"}, nil, "one"},
	} {
		for range 10 { // maps have no order
			if got := fleetOf(c.digests, c.times).archives("acme")["extensions/p/"][0].digest; got != c.want {
				t.Errorf("%s: it is %s", name, got)
			}
		}
	}
}

func TestScriptsAreThoseOfHostsThatServeTheTenant(t *testing.T) {
	t.Parallel()
	c := fleetOf(map[string]string{"a": "one", "b": "two", "c": "two"}, nil)
	version := func(tenant job.Tenant) string { return c.archives(tenant)["extensions/p/"][0].digest }
	if version("acme") != "two" || version("bolt") != "two" {
		t.Fatal("another version")
	}
	for _, host := range []string{"b", "c"} {
		c.grant(queue.Change[queue.HostGrant]{Phase: queue.Put, Key: host, Value: queue.HostGrant{Tenants: []job.Tenant{"bolt"}}})
	}
	if version("acme") != "one" || version("bolt") != "two" {
		t.Errorf("acme has %s and bolt %s", version("acme"), version("bolt"))
	}
	if got := c.hostsOf("acme", func(c *queue.Catalog) bool { return c.Blobs["object_info"] == "x" }); len(got) != 1 || got[0] != "a" {
		t.Errorf("acme may ask %v", got)
	}
}

func TestWhatAPackMayServe(t *testing.T) {
	t.Parallel()
	for pack, want := range map[string][3]bool{"p": {true, false, true}, "q": {true, false, false}, "core": {}, "": {}} {
		got := [3]bool{(&Extensions{}).serves(pack), (&Extensions{Off: true}).serves(pack), (&Extensions{Packs: []string{"p", "core"}}).serves(pack)}
		if got != want {
			t.Errorf("%q: %v", pack, got)
		}
	}
	for file, want := range map[string]bool{
		"a.js": true, "b/ü c.js": true, "": false, "../a.js": false, "a/../b.js": false, "a//b.js": false, "./a.js": false, `a\b.js`: false, "a%2e.js": false, "a?b.js": false, "/a.js": false,
	} {
		if fileOfPack(file) != want {
			t.Errorf("%q: %t", file, !want)
		}
	}
	if got := quoted("my päck+1"); got != "my%20p%C3%A4ck%2B1" {
		t.Error(got)
	}
}

func TestATunnelIsPatientAndGivesWhatTheFirstHostHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var goroutines sync.WaitGroup
		var mu sync.Mutex
		asked := map[string]int{}
		g := &Gateway{tunnel: newTunnel(func(_ context.Context, host string, r queue.PageRequest) (queue.Page, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[host]++
			switch {
			case host == "offline":
				return queue.Page{}, queue.ErrNoAgent
			case host == "lacks":
				return queue.Page{Status: http.StatusNotFound}, nil
			case host == "fails":
				return queue.Page{Status: http.StatusInternalServerError}, nil
			case asked[host] < 3:
				return queue.Page{Status: http.StatusTooManyRequests}, nil
			}
			return queue.Page{Status: http.StatusOK, Body: []byte(r.Route)}, nil
		}, &goroutines)}
		get := func(hosts ...string) (string, error) {
			p, err := g.anyHost(t.Context(), hosts, queue.PageRequest{Route: "a"}, errNoExtension)
			if err != nil {
				return "", err
			}
			return string(p.body), nil
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if got, err := get("offline", "lacks", "has"); got != "a" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		all.Wait()
		if asked["has"] != 3 || asked["lacks"] != 1 {
			t.Errorf("the hosts were asked %v", asked)
		}
		for want, hosts := range map[error][]string{errNoExtension: {"fails", "lacks", "offline"}, errNoHost: {"offline"}, errHostFails: {"offline", "fails"}} {
			if _, err := get(hosts...); !errors.Is(err, want) {
				t.Errorf("of %v: %v", hosts, err)
			}
		}
		if _, err := get(); !errors.Is(err, errNoExtension) {
			t.Errorf("of no host: %v", err)
		}
		<-time.After(time.Hour)
		if _, err := get("has"); err != nil || asked["has"] != 4 {
			t.Errorf("an hour later: %v, asked %d times", err, asked["has"])
		}
	})
}

func TestATunnelAsksAHostForNoMoreThanItsAgentPassesOnAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var goroutines sync.WaitGroup
		var under atomic.Int64
		release := make(chan struct{})
		tunnel := newTunnel(func(context.Context, string, queue.PageRequest) (queue.Page, error) {
			under.Add(1)
			<-release
			return queue.Page{Status: http.StatusOK}, nil
		}, &goroutines)
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() { _, _ = tunnel.get(t.Context(), "a", queue.PageRequest{Route: strconv.Itoa(i)}) })
		}
		synctest.Wait()
		if got := under.Load(); got != pagesAtOnce {
			t.Errorf("%d are asked at once", got)
		}
		close(release)
		all.Wait()
	})
}
