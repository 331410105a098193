package daemon_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestPasswordsAreLeftOutOfEveryText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"htp://admin:s3cret@h:1" is no address`:          `"htp://***@h:1" is no address`,
		"unexpected argument http://admin:s3/cr@t@h:1":    "unexpected argument http://***@h:1",
		"unexpected argument admin:s3cret@h:1":            "unexpected argument ***@h:1",
		"a=http://u:p@h:1,b=http://u2:p2@h2":              "a=http://***@h2",
		"cannot reach NATS at nats://token@n1,nats://n2":  "cannot reach NATS at nats://***@n1,nats://n2",
		"a=admin:s3cret@h is no address":                  "a=***@h is no address",
		"open http://h:8188/view?x=1: connection refused": "open http://h:8188/view?x=1: connection refused",
		"12:30 see mail of ada@example.org":               "12:30 see mail of ada@example.org",
		"":                                                "",
	} {
		if got := daemon.WithoutPasswords(text); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}
