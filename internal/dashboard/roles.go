package dashboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Role is what a viewer may do.
type Role string

const (
	Act      Role = "act"    // see everything and change it
	Look     Role = "look"   // see everything
	OfTenant Role = "tenant" // see the jobs of one tenant, cancel them and run them again
)

// Viewer is who looks at the page.
type Viewer struct {
	Role   Role
	Tenant job.Tenant // of OfTenant
}

// sees reports whether what belongs to a tenant is for the viewer.
func (v Viewer) sees(tenant job.Tenant) bool { return v.Role != OfTenant || v.Tenant == tenant }

// Keys are the passwords and tokens that open the page, each with what its holder may do.
type Keys []key

type key struct {
	viewer Viewer
	secret string
}

// shortestSecret is what --dashboard-auth accepts: a shorter one is guessed.
const shortestSecret = 8

// ParseKeys reads --dashboard-auth: secrets with commas between them. One without a role may do everything; look:SECRET may only
// look, and tenant/NAME:SECRET concerns one tenant.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		k := key{viewer: Viewer{Role: Act}, secret: part}
		if role, secret, found := strings.Cut(part, ":"); found {
			k.secret = secret
			var err error
			if k.viewer, err = parseRole(role); err != nil {
				return nil, err
			}
		}
		if len(k.secret) < shortestSecret {
			return nil, fmt.Errorf("a secret has %d characters; give at least %d, as from `openssl rand -hex 16`", len(k.secret), shortestSecret)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseRole(text string) (Viewer, error) {
	name, tenant, found := strings.Cut(text, "/")
	switch {
	case !found && (Role(name) == Act || Role(name) == Look):
		return Viewer{Role: Role(name)}, nil
	case found && Role(name) == OfTenant && job.Tenant(tenant).Valid():
		return Viewer{Role: OfTenant, Tenant: job.Tenant(tenant)}, nil
	}
	return Viewer{}, fmt.Errorf("%.40q is no role; write act:SECRET, look:SECRET, tenant/NAME:SECRET, or a secret without a colon", text)
}

// find gives the viewer whose secret this is.
func (ks Keys) find(secret string) (key, bool) {
	given := sha256.Sum256([]byte(secret))
	for _, k := range ks {
		if own := sha256.Sum256([]byte(k.secret)); subtle.ConstantTimeCompare(given[:], own[:]) == 1 {
			return k, true
		}
	}
	return key{}, false
}

const (
	cookieName = "comfyherd"
	cookieAge  = 30 * 24 * time.Hour
)

// ticket is the value of a cookie: when it ends, and a proof that the holder once gave this secret. Nothing is stored here, so that
// it is good for every dashboard with the same secrets, and for none when the secret was changed.
func (k *key) ticket(until time.Time) string {
	end := strconv.FormatInt(until.Unix(), 36)
	return end + "." + k.proof(end)
}

func (k *key) proof(end string) string {
	mac := hmac.New(sha256.New, []byte(k.secret))
	_, _ = fmt.Fprintf(mac, "comfyherd dashboard\n%s\n%s\n%s", k.viewer.Role, k.viewer.Tenant, end) // a hash fails no write
	return hex.EncodeToString(mac.Sum(nil))
}

// bearer gives the key whose ticket this is, unless it has ended.
func (ks Keys) bearer(ticket string, now time.Time) (key, bool) {
	end, proof, _ := strings.Cut(ticket, ".")
	until, err := strconv.ParseInt(end, 36, 64)
	if err != nil || now.Unix() >= until {
		return key{}, false
	}
	for _, k := range ks {
		if hmac.Equal([]byte(k.proof(end)), []byte(proof)) {
			return k, true
		}
	}
	return key{}, false
}

// viewer says who sends a request: by the cookie of a login, or by a token in the header Authorization.
func (d *Dashboard) viewer(r *http.Request) (Viewer, bool) {
	if len(d.cfg.Keys) == 0 {
		return Viewer{Role: Act}, true
	}
	if token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); given {
		k, known, _ := d.logins.find(d.cfg.Keys, token, time.Now())
		return k.viewer, known
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return Viewer{}, false
	}
	k, known := d.cfg.Keys.bearer(cookie.Value, time.Now())
	return k.viewer, known
}
