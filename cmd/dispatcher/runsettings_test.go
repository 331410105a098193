package main_test

import (
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

func TestTheSettingsOfADispatcherSayWhereTheyComeFrom(t *testing.T) {
	t.Parallel()
	got := main.RunSettings(t, "--park=20m", "--lane-cap=7", "--preset=development")
	for name, want := range map[string]string{
		"park": "20m0s set", "capable-wait": "5m default", "lane-cap": "7 set", "replicas": "1 default", "preset": "development set", "max-input": "4GiB default",
		"events-age": "72h default", "http": "off default",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	for _, secret := range []string{"creds", "nats-url", "access"} {
		if _, told := got[secret]; told {
			t.Errorf("%s is told", secret)
		}
	}
}
