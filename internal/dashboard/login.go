package dashboard

import (
	"html/template"
	"net/http"
	"sync"
	"time"
)

const (
	mostAttempts  = 20 // wrong secrets in a minute, of all viewers together
	attemptsPause = time.Minute
	mostForm      = 4 << 10
)

// attempts bounds how often a secret may be guessed.
type attempts struct {
	mu    sync.Mutex // guards all below
	since time.Time
	wrong int
}

// find gives the key with a secret. allowed is false when too many secrets were wrong, so that this one was not compared. It compares and counts
// under one lock, so that no number of requests at the same time may try more.
func (a *attempts) find(keys Keys, secret string, now time.Time) (k key, known, allowed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= attemptsPause {
		a.since, a.wrong = now, 0
	}
	if a.wrong >= mostAttempts {
		return key{}, false, false
	}
	if k, known = keys.find(secret); !known {
		a.wrong++
	}
	return k, known, true
}

var loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>comfyherd: log in</title><link rel="icon" href="assets/{{.Hash}}/icon.svg"><script src="assets/{{.Hash}}/theme.js"></script>
<link rel="stylesheet" href="assets/{{.Hash}}/base.css"></head>
<body class="login"><main><form method="post" action="login"><h1>comfyherd</h1>
{{with .Error}}<p role="alert" class="note bad">{{.}}</p>{{end}}
<label for="secret">Password or token</label>
<input id="secret" name="secret" type="password" autocomplete="current-password" autofocus required>
<button class="primary">Log in</button>
<p class="quiet">It is what <code>--dashboard-auth</code> of this dashboard has.</p>
</form></main></body></html>
`))

func (d *Dashboard) loginForm(w http.ResponseWriter, r *http.Request) {
	if _, known := d.viewer(r); known {
		goTo(w, "./")
		return
	}
	d.showLogin(w, http.StatusOK, "")
}

func (d *Dashboard) showLogin(w http.ResponseWriter, code int, problem string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = loginPage.Execute(w, struct{ Hash, Error string }{d.assets.hash, problem}) // the viewer may be gone
}

// login gives a cookie for the right secret.
func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	secret, now := r.PostFormValue("secret"), time.Now()
	k, known, allowed := d.logins.find(d.cfg.Keys, secret, now)
	if !allowed {
		d.showLogin(w, http.StatusTooManyRequests, "Too many wrong passwords in the last minute. Wait a minute, then try again.")
		return
	}
	if !known {
		d.cfg.Logger.Warn("wrong password for the dashboard", "from", r.RemoteAddr)
		d.showLogin(w, http.StatusForbidden, "This password is not known.")
		return
	}
	http.SetCookie(w, d.cookie(k.ticket(now.Add(cookieAge)), int(cookieAge/time.Second)))
	goTo(w, "./")
}

// goTo sends the browser to a relative address, which stays right behind a proxy that adds a prefix.
func goTo(w http.ResponseWriter, relative string) {
	w.Header().Set("Location", relative)
	w.WriteHeader(http.StatusSeeOther)
}

func (d *Dashboard) logout(w http.ResponseWriter, _ *http.Request) {
	http.SetCookie(w, d.cookie("", -1))
	goTo(w, "login")
}

// cookie is read by no script and sent from no other page.
func (d *Dashboard) cookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: d.cfg.URL != nil && d.cfg.URL.Scheme == "https",
	}
}
