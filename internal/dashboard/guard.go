package dashboard

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"
)

// policy is what the page may load and do: its own files, and nothing from elsewhere, from text or inside a frame of another page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types lit-html"

// guarded lets a request pass that names this page's host and comes from this page. A page elsewhere whose name was pointed at this
// machine (DNS rebinding) passes every check of origins, since to the browser it is the same host: hence the check of the name.
func (d *Dashboard) guarded(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	if d.cfg.URL != nil { // a proxy may send another Host than the browser has, and over plain HTTP a browser says no more than its origin
		_ = origins.AddTrustedOrigin(d.cfg.URL.Scheme + "://" + d.cfg.URL.Host) // without a scheme or a host it is no URL of a page
	}
	own := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !d.ownHost(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "this page does not answer under the name "+quoted(r.Host)+
				": open it under its address, as http://127.0.0.1:8080, or start it with --dashboard-url when a proxy gives it that name")
			return
		}
		control, until := http.NewResponseController(w), time.Now().Add(answerTimeout)
		_ = control.SetWriteDeadline(until) // streams and files set their own
		if r.ContentLength != 0 {
			_ = control.SetReadDeadline(until) // a stream has no body, and would end then
		}
		own.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header may be this page's: an address, a name of this machine's loopback, or the name of its URL.
// An attacker who points a name at this machine can use none of them.
func (d *Dashboard) ownHost(host string) bool {
	if d.cfg.URL != nil && strings.EqualFold(host, d.cfg.URL.Host) {
		return true
	}
	name := host
	if only, _, err := net.SplitHostPort(host); err == nil {
		name = only
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || net.ParseIP(name) != nil ||
		d.cfg.URL != nil && strings.EqualFold(name, d.cfg.URL.Hostname())
}

func quoted(text string) string {
	b, _ := json.Marshal(text[:min(len(text), 80)]) // a string can always be encoded
	return string(b)
}

// viewerKey is where the viewer of a request is in its context.
type viewerKey struct{}

// seen lets those pass who may see the page.
func (d *Dashboard) seen(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, known := d.viewer(r)
		if !known {
			w.Header().Set("WWW-Authenticate", `Bearer realm="comfyherd"`)
			refuse(w, http.StatusUnauthorized, "log in first: open the page, or send the header Authorization with Bearer and a token of --dashboard-auth")
			return
		}
		next(w, r.WithContext(context.WithValue(r.Context(), viewerKey{}, who)))
	})
}

// viewerOf is the viewer of a request that has passed seen.
func viewerOf(r *http.Request) Viewer {
	who, _ := r.Context().Value(viewerKey{}).(Viewer)
	return who
}

// refuse answers with an error in the form that the page shows.
func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text}) // the viewer may be gone
}
