package daemon

import "regexp"

var (
	inAddress = regexp.MustCompile("([A-Za-z][A-Za-z0-9+.-]*://)[^\\s\"'`]*@")
	bare      = regexp.MustCompile("[^\\s\"'`,=/@]+:[^\\s\"'`]*@")
)

// hidden replaces a user and a password.
const hidden = "***@"

// WithoutPasswords hides the user and password of every address in a text, whole addresses or such without a scheme. When no space
// separates two addresses, what is between them is hidden too.
func WithoutPasswords(text string) string {
	text = inAddress.ReplaceAllString(text, "${1}"+hidden)
	return bare.ReplaceAllStringFunc(text, func(found string) string {
		if inAddress.MatchString(found) { // hidden above
			return found
		}
		return hidden
	})
}
