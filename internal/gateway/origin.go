package gateway

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

var (
	errOrigin = &failed{http.StatusForbidden, "forbidden_origin", "a page of another site may not use this gateway from your browser: open the gateway's own address"}
	errHost   = &failed{http.StatusForbidden, "forbidden_host", "without a key this gateway answers only to an address of this machine, such as http://127.0.0.1:8188, and to no other name"}
)

// checkOrigin refuses what a page of another site has a browser send. ComfyUI's rule concerns requests to this machine: such a
// page must not reach what no key protects. The rule also holds for keys in cookies, which browsers send by themselves. Without named,
// names that are no address are refused in addition, since their owner can let them point to this machine.
func checkOrigin(r *http.Request, c caller, named bool) error {
	host := hostOf(r.Host)
	here := loopback(host)
	if _, err := netip.ParseAddr(host); err != nil && !here && !named {
		return errHost
	}
	if !here && !c.cookie {
		return nil
	}
	if strings.EqualFold(r.Header.Get("Sec-Fetch-Site"), "cross-site") {
		return errOrigin
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	from, err := url.Parse(origin)
	if err != nil || !strings.EqualFold(from.Host, r.Host) && !sameDefaultPort(from, r.Host) {
		return errOrigin
	}
	return nil
}

// sameDefaultPort compares an origin with a Host header when one of them leaves out the port of its scheme.
func sameDefaultPort(origin *url.URL, host string) bool {
	port := map[string]string{"http": ":80", "https": ":443"}[origin.Scheme]
	return port != "" && strings.EqualFold(strings.TrimSuffix(origin.Host, port), strings.TrimSuffix(host, port))
}
