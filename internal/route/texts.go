package route

import (
	"fmt"
	"strings"
)

// textHosts is how many hosts a text names; the others are counted.
const textHosts = 3

// awayText says why no host is online.
func awayText(hosts []HostVerdict) string {
	var away []string
	for _, v := range hosts {
		if v.Code == CodeOthers {
			continue
		}
		away = append(away, fmt.Sprintf("%s is %s", v.Host, v.Code))
	}
	return enumerated("no host is online", away)
}

// lackText says what the online hosts lack.
func (f *Fleet) lackText(hosts []HostVerdict) string {
	var lacking []string
	for _, v := range hosts {
		if v.Code != CodeOthers && f.online.has(f.numbers[v.Host]) {
			lacking = append(lacking, fmt.Sprintf("%s: %s", v.Host, v.Text))
		}
	}
	return enumerated("no host that is online can run it", lacking)
}

func enumerated(what string, list []string) string {
	if len(list) == 0 {
		return what
	}
	more := ""
	if n := len(list) - textHosts; n > 0 {
		list, more = list[:textHosts], fmt.Sprintf("; and %d more", n)
	}
	return what + ": " + strings.Join(list, "; ") + more
}
