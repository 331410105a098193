package dispatcher

import (
	"strings"
	"testing"
)

func TestABodyIsGivenWhenTheAnswerCanHoldIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body, why string
		room      int
		says      string // why there is none
	}{
		"Fits":     {`{"a":1}`, "", 7, ""},
		"TooLarge": {`{"a":1}`, "", 6, "it has 7 bytes, and the answer has room for 6 more"},
		"NoRoom":   {`{"a":1}`, "", -5, "it has 7 bytes, and the answer has room for 0 more"},
		"NoJSON":   {`{"a":NaN}`, "", 100, "it has numbers that JSON lacks"},
		"NotKept":  {`{}`, "it is not kept", 100, "it is not kept"},
	} {
		body, why := bodyThatFits([]byte(c.body), c.why, c.room)
		if (string(body) == c.body) != (c.says == "") || !strings.HasPrefix(why, c.says) || c.says == "" && why != "" || c.says != "" && body != nil {
			t.Errorf("%s: %q, %q", name, body, why)
		}
	}
}
