package daemon

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ComfyHost is an entry of COMFY_HOSTS. Name is empty where the entry is an address alone.
type ComfyHost struct{ Name, URL string }

// ComfyHosts reads COMFY_HOSTS: addresses, or name=address, separated by commas. Empty entries are left out.
func ComfyHosts(text string) ([]ComfyHost, error) {
	var hosts []ComfyHost
	entry := 0
	for part := range strings.SplitSeq(text, ",") {
		entry++
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		host := ComfyHost{URL: part}
		if name, address, found := strings.Cut(part, "="); found && !strings.Contains(name, "/") {
			host = ComfyHost{Name: name, URL: address}
		}
		if u, err := url.Parse(host.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%s is not the address of a ComfyUI; write it like http://127.0.0.1:8188 or gpu-1=http://127.0.0.1:8188", entryText(text, part, entry))
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// entryText names an entry of COMFY_HOSTS in an error. Where the text may have a password it gives only the number: a
// password with a comma or a slash makes parts that look like entries of their own.
func entryText(text, part string, number int) string {
	if strings.ContainsAny(text, "@?") {
		return fmt.Sprintf("entry %d of COMFY_HOSTS", number)
	}
	return strconv.Quote(part)
}
