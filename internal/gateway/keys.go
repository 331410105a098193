package gateway

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// shortestKey is how many characters a key has at least.
const shortestKey = 8

// keyCookie is the cookie in which a browser keeps its key. It is set by a request with ?token=.
const keyCookie = "comfyherd_key"

// keyring finds the tenant of a key. It holds digests, so that the time of a look-up says nothing about a key.
type keyring map[[sha256.Size]byte]job.Tenant

func newKeyring(keys map[string]job.Tenant) keyring {
	k := keyring{}
	for key, tenant := range keys {
		k[sha256.Sum256([]byte(key))] = tenant
	}
	return k
}

func (k keyring) tenant(key string) (job.Tenant, bool) {
	tenant, found := k[sha256.Sum256([]byte(key))]
	return tenant, found
}

// caller is the tenant of a request, and how it is known.
type caller struct {
	tenant job.Tenant
	keyed  bool   // a key says it, and not the address to which the request came
	cookie bool   // the key came in a cookie, which a browser sends by itself
	prefix string // "/k/<key>" when the key came in the path, which links to this gateway need then
}

type callerKey struct{}

// tenantOf is whose request it is. The middleware has looked at the key before any handler is called.
func tenantOf(r *http.Request) (job.Tenant, error) {
	c, _ := r.Context().Value(callerKey{}).(caller)
	if c.tenant == "" {
		return "", errNoKey
	}
	return c.tenant, nil
}

// prefixOf is what a link to this gateway begins with, before the path: empty, or the key that the request had in its path.
func prefixOf(r *http.Request) string {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c.prefix
}

var (
	errNoKey    = &failed{http.StatusUnauthorized, "unauthorized", "this gateway needs a key: send it as `Authorization: Bearer KEY`, as X-API-Key, as ?token=KEY, or put /k/KEY before the path"}
	errWrongKey = &failed{http.StatusUnauthorized, "unauthorized", "this gateway has no such key: ask its operator for the key of your tenant"}
)

// identify finds whose request it is and hands it on, without the key in its path. fallback is the tenant of requests without a
// key; empty: there is none. local says that only this machine reaches the address to which the request came.
func (g *Gateway) identify(fallback job.Tenant, local bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, r2, err := g.caller(r, fallback)
		if err == nil {
			err = checkOrigin(r, c, c.keyed || len(g.keys) > 0 && !local)
		}
		if err != nil {
			g.metrics.refuses(err)
			answerError(w, r2, err)
			return
		}
		if token := r.URL.Query().Get("token"); token != "" && len(g.keys) > 0 && r.Method == http.MethodGet && r.URL.Path == "/" {
			http.SetCookie(w, &http.Cookie{Name: keyCookie, Value: url.QueryEscape(token), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
		next.ServeHTTP(w, r2.WithContext(context.WithValue(r2.Context(), callerKey{}, c)))
	})
}

// caller reads the key of a request, wherever it is. A key in the path is taken out of it.
func (g *Gateway) caller(r *http.Request, fallback job.Tenant) (caller, *http.Request, error) {
	c := caller{tenant: fallback}
	key, rest, inPath := keyInPath(r.URL)
	if inPath {
		c.prefix = "/k/" + key
		r = withPath(r, rest)
	} else {
		key, c.cookie = keyOf(r)
	}
	if len(g.keys) == 0 || key == "" { // without keys a client may send whatever it has
		if c.tenant == "" {
			return c, r, errNoKey
		}
		c.cookie = false
		return c, r, nil
	}
	tenant, found := g.keys.tenant(key)
	if !found {
		return c, r, errWrongKey
	}
	c.tenant, c.keyed = tenant, true
	return c, r, nil
}

// keyInPath takes /k/<key>/ off a path. rest is escaped as the path was.
func keyInPath(u *url.URL) (key, rest string, found bool) {
	after, found := strings.CutPrefix(u.EscapedPath(), "/k/")
	if !found {
		return "", "", false
	}
	escaped, rest, _ := strings.Cut(after, "/")
	key, err := url.PathUnescape(escaped)
	return key, "/" + rest, err == nil && key != ""
}

// withPath is a request for another path, which is given escaped.
func withPath(r *http.Request, escaped string) *http.Request {
	changed := *r
	u := *r.URL
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		plain = escaped
	}
	u.Path, u.RawPath = plain, escaped
	changed.URL = &u
	return &changed
}

// keyOf is the key in a request's headers, query or cookie; cookie says that it is the last.
func keyOf(r *http.Request) (key string, cookie bool) {
	if scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), false
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, false
	}
	if key := r.Header.Get("X-API-Key"); key != "" {
		return key, false
	}
	if key := r.URL.Query().Get("token"); key != "" {
		return key, false
	}
	if c, err := r.Cookie(keyCookie); err == nil {
		key, _ := url.QueryUnescape(c.Value)
		return key, true
	}
	return "", false
}

// loopback reports whether a host, as an address has it, can be reached from this machine only.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// hostOf is the host of host:port, or of a host without a port.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}
