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

func (a *attempts) allowed(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Sub(a.since) >= attemptsPause || a.wrong < mostAttempts
}

func (a *attempts) count(right bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= attemptsPause {
		a.since, a.wrong = now, 0
	}
	if !right {
		a.wrong++
	}
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
	now := time.Now()
	if !d.logins.allowed(now) {
		d.showLogin(w, http.StatusTooManyRequests, "Too many wrong passwords in the last minute. Wait a minute, then try again.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	k, known := d.cfg.Keys.find(r.PostFormValue("secret"))
	d.logins.count(known, now)
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
