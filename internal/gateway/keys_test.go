package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	acmeKey = "acme-key-1"
	boltKey = "bolt-key-1"
)

func keys() map[string]job.Tenant {
	return map[string]job.Tenant{acmeKey: "acme", boltKey: "bolt"}
}

func TestAKeyIsFoundWhereverAClientCanPutIt(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		target string
		header http.Header
		tenant job.Tenant
		path   string
		status int
	}{
		"Bearer":            {"/queue", http.Header{"Authorization": {"Bearer " + acmeKey}}, "acme", "/queue", 200},
		"APIKey":            {"/queue", http.Header{"X-Api-Key": {boltKey}}, "bolt", "/queue", 200},
		"Query":             {"/ws?token=" + acmeKey, nil, "acme", "/ws", 200},
		"BasicPassword":     {"/queue", http.Header{"Authorization": {"Basic dTphY21lLWtleS0x"}}, "acme", "/queue", 200}, // u:acme-key-1
		"Cookie":            {"/queue", http.Header{"Cookie": {"comfyherd_key=" + boltKey}}, "bolt", "/queue", 200},
		"PathPrefix":        {"/k/" + acmeKey + "/api/queue", nil, "acme", "/api/queue", 200},
		"PathPrefixOfPage":  {"/k/" + acmeKey + "/", nil, "acme", "/", 200},
		"PathKeepsEscapes":  {"/k/" + acmeKey + "/userdata/a%2Fb.json", nil, "acme", "/userdata/a/b.json", 200},
		"WrongKey":          {"/queue", http.Header{"Authorization": {"Bearer nobody-has-this"}}, "", "", 401},
		"WrongKeyInPath":    {"/k/nobody-has-this/queue", nil, "", "", 401},
		"NoKey":             {"/queue", nil, "", "", 401},
		"EmptyKeyInThePath": {"/k//queue", nil, "", "", 401},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://comfy.example"+c.target, nil)
			for header, values := range c.header {
				r.Header[header] = values
			}
			tenant, path, status := gateway.Identify(gateway.Config{Keys: keys()}, "", r)
			if tenant != c.tenant || path != c.path || status != c.status {
				t.Errorf("tenant %q, path %q, status %d; want %q, %q, %d", tenant, path, status, c.tenant, c.path, c.status)
			}
		})
	}
}

func TestAListenerOfATenantNeedsNoKey(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8189/queue", nil)
	if tenant, _, status := gateway.Identify(gateway.Config{Keys: keys()}, "bolt", r); tenant != "bolt" || status != 200 {
		t.Errorf("tenant %q, status %d", tenant, status)
	}
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	if tenant, _, _ := gateway.Identify(gateway.Config{Keys: keys()}, "bolt", r); tenant != "acme" {
		t.Errorf("with a key of acme the tenant is %q", tenant)
	}
}

// The owner of a name can let it point to this machine, so that a page of that name counts as the gateway's own.
func TestNamesThatPointHereNeedAKey(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://evil.example:8189/queue", nil)
	if _, _, status := gateway.Identify(gateway.Config{Keys: keys()}, "bolt", r); status != 403 {
		t.Errorf("a page of another name reaches the address of a tenant: status %d", status)
	}
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	if tenant, _, status := gateway.Identify(gateway.Config{Keys: keys()}, "bolt", r); tenant != "acme" || status != 200 {
		t.Errorf("with a key: tenant %q, status %d", tenant, status)
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	type headers = map[string]string
	cases := map[string]struct {
		host    string
		headers headers
		keys    map[string]job.Tenant
		status  int
	}{
		"Plain":                        {"127.0.0.1:8188", nil, nil, 200},
		"OwnOrigin":                    {"127.0.0.1:8188", headers{"Origin": "http://127.0.0.1:8188"}, nil, 200},
		"OwnOriginWithDefaultPort":     {"localhost:80", headers{"Origin": "http://localhost"}, nil, 200},
		"ForeignOrigin":                {"127.0.0.1:8188", headers{"Origin": "http://evil.example"}, nil, 403},
		"OriginOfAnotherPort":          {"127.0.0.1:8188", headers{"Origin": "http://127.0.0.1:9999"}, nil, 403},
		"OpaqueOrigin":                 {"127.0.0.1:8188", headers{"Origin": "null"}, nil, 403},
		"CrossSite":                    {"localhost:8188", headers{"Sec-Fetch-Site": "cross-site"}, nil, 403},
		"NameThatPointsHere":           {"evil.example:8188", nil, nil, 403},
		"AddressOfTheNetwork":          {"192.168.0.9:8188", nil, nil, 200},
		"ForeignOriginWithKey":         {"comfy.example", headers{"Origin": "http://app.example", "X-Api-Key": acmeKey}, keys(), 200},
		"ForeignOriginWithCookie":      {"comfy.example", headers{"Origin": "http://app.example", "Cookie": "comfyherd_key=" + acmeKey}, keys(), 403},
		"OwnOriginWithCookie":          {"comfy.example", headers{"Origin": "https://comfy.example", "Cookie": "comfyherd_key=" + acmeKey}, keys(), 200},
		"ForeignOriginWithKeyLoopback": {"127.0.0.1:8188", headers{"Origin": "http://app.example", "X-Api-Key": acmeKey}, keys(), 403},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://"+c.host+"/queue", nil)
			for header, value := range c.headers {
				r.Header.Set(header, value)
			}
			fallback := gateway.DefaultTenant
			if c.keys != nil {
				fallback = ""
			}
			if _, _, status := gateway.Identify(gateway.Config{Keys: c.keys}, fallback, r); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
		})
	}
}

func TestAGatewayForEverybodyIsRefused(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "no port"} {
		if _, err := gateway.New(nil, gateway.Config{Listen: listen}); err == nil {
			t.Errorf("%q without keys was accepted", listen)
		}
	}
	if _, err := gateway.New(nil, gateway.Config{Listen: "127.0.0.1:0", Keys: map[string]job.Tenant{"short": "acme"}}); err == nil {
		t.Error("a short key was accepted")
	}
}
