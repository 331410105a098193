package daemon

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	inAddress = regexp.MustCompile("([A-Za-z][A-Za-z0-9+.-]*://)[^\\s\"'`]*@")
	bare      = regexp.MustCompile("[^\\s\"'`,=/@]+:[^\\s\"'`]*@")
)

// hidden stands where a user and a password were.
const hidden = "***@"

// WithoutPasswords hides the user and password of every address in a text, whole addresses or such without a scheme.
// What two addresses without a break between them have in the middle is hidden too.
func WithoutPasswords(text string) string {
	text = inAddress.ReplaceAllString(text, "${1}"+hidden)
	return bare.ReplaceAllStringFunc(text, func(found string) string {
		if inAddress.MatchString(found) { // hidden above
			return found
		}
		return hidden
	})
}

// HostShown is an entry of COMFY_HOSTS as an error may show it. Where the whole has a password anywhere, whose signs may
// have taken it apart, no entry is shown.
func HostShown(entry, whole string) string {
	if strings.Contains(whole, "@") {
		return "an entry of COMFY_HOSTS (not shown, since there are passwords in it)"
	}
	return strconv.Quote(entry)
}
