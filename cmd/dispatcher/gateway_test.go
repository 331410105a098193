package main_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestKeysOfTheGatewayAreReadFromAListOrAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# people\nacme=KEY-OF-ACME\n\n bolt=KEY-OF-BOLT\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]job.Tenant{"KEY-OF-ACME": "acme", "KEY-OF-BOLT": "bolt"}
	for _, text := range []string{"acme=KEY-OF-ACME, bolt=KEY-OF-BOLT", "@" + file} {
		got, err := main.GatewayKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, text := range []string{"acme", "acme=", "a b=KEY-OF-ACME", "acme=SAME-KEY,bolt=SAME-KEY", "@" + file + "-missing"} {
		_, err := main.GatewayKeys(text)
		if err == nil {
			t.Errorf("%q was accepted", text)
		} else if strings.Contains(err.Error(), "SAME-KEY") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestListenersOfTheGatewayHaveATenant(t *testing.T) {
	t.Parallel()
	got, err := main.GatewayListeners("127.0.0.1:8189=acme,[::1]:8190=bolt")
	if diff := cmp.Diff(map[string]job.Tenant{"127.0.0.1:8189": "acme", "[::1]:8190": "bolt"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, text := range []string{"127.0.0.1:8189", "8189=acme", "127.0.0.1:8189=", "127.0.0.1:8189=a b"} {
		if _, err := main.GatewayListeners(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestTheNodePacksWhoseScriptsAGatewayServes(t *testing.T) {
	t.Parallel()
	off := gateway.Extensions{Off: true}
	for text, want := range map[string][2]gateway.Extensions{ // in an open fleet, and in a closed one
		"-": {{}, off}, "all": {}, "none": {off, off}, "a, B-c ,": {{Packs: []string{"a", "B-c"}}, {Packs: []string{"a", "B-c"}}},
	} {
		for i, closed := range []bool{false, true} {
			got, err := main.GatewayExtensions(text, closed)
			if diff := cmp.Diff(want[i], got); diff != "" || err != nil {
				t.Errorf("%q, closed %t: %v %s", text, closed, err, diff)
			}
		}
	}
	for _, text := range []string{"all,a", "a,none", "a/b", `a\b`} {
		if _, err := main.GatewayExtensions(text, false); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// Where NATS asks for credentials, a gateway without keys would let everybody on this machine in.
func TestAGatewayNeedsKeysWhereNATSAsksForCredentials(t *testing.T) {
	t.Parallel()
	run := func(word string, args ...string) (code int, said string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out := &until{word: word, stop: cancel}
		args = append([]string{"run", "--embedded", "--listen=127.0.0.1:0", "--store-dir=" + t.TempDir(), "--token=a-secret", "--dashboard=off", "--log-level=error"}, args...)
		code = main.Run(ctx, args, nil, io.Discard, out)
		return code, out.said()
	}
	if code, said := run("stop      Ctrl-C"); code != 0 || !strings.Contains(said, "gateway   off, since NATS asks for credentials") {
		t.Errorf("by default: code %d, said %s", code, said)
	}
	if code, said := run("stop      Ctrl-C", "--gateway=127.0.0.1:0"); code == 0 || !strings.Contains(said, "give --gateway-keys, as acme=KEY") {
		t.Errorf("asked for without keys: code %d, said %s", code, said)
	}
	if code, said := run("stop      Ctrl-C", "--gateway-listen-as=127.0.0.1:0=acme"); code == 0 || !strings.Contains(said, "give --gateway-keys, as acme=KEY") {
		t.Errorf("with an address of a tenant and without keys: code %d, said %s", code, said)
	}
	if code, said := run("stop      Ctrl-C", "--gateway=127.0.0.1:0", "--gateway-keys=acme=KEY-OF-ACME"); code != 0 || !strings.Contains(said, "gateway   http://127.0.0.1:") {
		t.Errorf("with keys: code %d, said %s", code, said)
	}
}
