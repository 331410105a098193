package dashboard

import (
	"fmt"
	"net/http"
	"strconv"
)

// mostIcon is the largest number that an icon has room for.
const mostIcon = 99

// icon draws the icon of the tab with how many things need a person. The page may draw it only by an address of its own, since its policy
// forbids pictures that are made in the browser.
func icon(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("count"))
	if err != nil || n < 1 || n > mostIcon+1 {
		http.NotFound(w, r)
		return
	}
	text, size := strconv.Itoa(n), 15
	if n > mostIcon {
		text, size = "99+", 10
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#2f5fd0"/><g fill="#fff">`+
		`<circle cx="7" cy="9" r="2.6"/><circle cx="13" cy="9" r="2.6" opacity=".7"/><rect x="5" y="24" width="10" height="3.4" rx="1.7"/></g>`+
		`<circle cx="20.5" cy="18.5" r="11.5" fill="#ad1457"/><text x="20.5" y="18.5" fill="#fff" font-family="sans-serif" font-weight="700" font-size="%d" text-anchor="middle" dominant-baseline="central">%s</text></svg>`, size, text)
}
