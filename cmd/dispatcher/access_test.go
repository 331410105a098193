package main_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

// keys runs `dispatcher access` and gives its exit code and what it wrote.
func keys(t *testing.T, args ...string) (code int, out, say string) {
	t.Helper()
	var o, e bytes.Buffer
	code = main.Run(t.Context(), append([]string{"access"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestAnAccessFolderIsMadeOnceAndGivesTheSameCredentialsAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "herd")
	if code, out, say := keys(t, "init", dir); code != 0 || out != "" || !strings.Contains(say, "the fleet's keys are in "+dir+"; keep the folder secret") {
		t.Fatalf("init: code %d, %q, %q", code, out, say)
	}
	root := read(t, filepath.Join(dir, "keys", "root.nk"))
	commands := map[string][]string{
		"tenant-acme": {"tenant", dir, "acme", "--max-payload=1048576"}, "agent-gpu-1": {"agent", dir, "gpu-1", "--tenants=acme,bolt", "--slots=2"},
		"dispatcher": {"dispatcher", dir}, "operator": {"operator", dir}, "watcher": {"watcher", dir}, "gateway": {"gateway", dir},
	}
	given := map[string]string{}
	for name, args := range commands {
		code, out, say := keys(t, args...)
		path := filepath.Join(dir, "creds", name+".creds")
		if code != 0 || out != path+"\n" || say != "" {
			t.Errorf("%v: code %d, %q, %q", args, code, out, say)
		}
		given[path] = read(t, path)
	}
	if code, _, say := keys(t, "init", dir); code != 0 {
		t.Errorf("init again: code %d, %q", code, say)
	}
	for _, args := range commands {
		if code, out, _ := keys(t, args...); code != 0 || read(t, strings.TrimSpace(out)) != given[strings.TrimSpace(out)] {
			t.Errorf("%v again: code %d, other credentials", args, code)
		}
	}
	if read(t, filepath.Join(dir, "keys", "root.nk")) != root {
		t.Error("init has made another root key")
	}
	if runtime.GOOS == "windows" {
		return
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s is %v, want %v", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// seed is a private key of NATS as text.
var seed = regexp.MustCompile(`S[AOU][A-Z2-7]{56}`)

func TestTheListOfCredentialsShowsWhoHasWhatAndNoKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "herd")
	for _, args := range [][]string{
		{"init", dir}, {"tenant", dir, "acme"}, {"tenant", dir, "bolt"}, {"agent", dir, "gpu-1"}, {"agent", dir, "gpu-2", "--tenants=bolt,acme", "--slots=2"},
	} {
		if code, out, say := keys(t, args...); code != 0 || seed.MatchString(out+say) {
			t.Fatalf("%v: code %d, %q, %q", args, code, out, say)
		}
	}
	rows := func() [][]string {
		code, out, say := keys(t, "list", dir)
		if code != 0 {
			t.Fatalf("list: code %d, %s", code, say)
		}
		var all [][]string
		for line := range strings.Lines(out) {
			all = append(all, strings.Fields(line)[:3])
		}
		return all
	}
	has := func(name, tenants, slots string) bool {
		for _, row := range rows() {
			if row[0] == name {
				return row[1] == tenants && row[2] == slots
			}
		}
		return false
	}
	if !has("NAME", "TENANTS", "SLOTS") || !has("tenant-acme", "-", "-") || !has("dispatcher", "-", "-") ||
		!has("agent-gpu-1", "all", "-") || !has("agent-gpu-2", "acme,bolt", "2") {
		t.Errorf("the list has %q", rows())
	}
	if code, _, say := keys(t, "revoke", dir, "tenant-bolt"); code != 0 || !strings.Contains(say, "tenant-bolt is revoked") {
		t.Errorf("revoke: code %d, %q", code, say)
	}
	if has("tenant-bolt", "-", "-") {
		t.Error("a tenant that was cut off is listed")
	}
	if _, err := os.Stat(filepath.Join(dir, "creds", "tenant-bolt.creds")); !os.IsNotExist(err) {
		t.Errorf("the file of a tenant that was cut off: %v", err)
	}
	_, out, _ := keys(t, "list", dir, "--json")
	var holders []struct{ Kind, Name, Creds string }
	if err := json.Unmarshal([]byte(out), &holders); err != nil || len(holders) != 4 || holders[0].Kind != "agent" || holders[0].Name != "gpu-1" ||
		holders[0].Creds != filepath.Join(dir, "creds", "agent-gpu-1.creds") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAccessRefusesWhatCannotBeAndSaysWhatCan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "herd")
	if code, _, say := keys(t, "init", dir); code != 0 {
		t.Fatal(say)
	}
	for want, args := range map[string][]string{
		`dispatcher: "a.b" is no tenant name; use 1 to 64 of A-Z a-z 0-9 _ -`:                                   {"tenant", dir, "a.b"},
		`dispatcher: "*" is no tenant name`:                                                                     {"tenant", dir, "*"},
		`dispatcher: "a/../b" is no host name; use 1 to 64 of A-Z a-z 0-9 _ -, the name that COMFY_HOSTS gives`: {"agent", dir, "a/../b"},
		`dispatcher: "x y" is no tenant name`:                                                                   {"agent", dir, "gpu-1", "--tenants=x y"},
		"dispatcher: a host is given to some tenants or to all of them, not both":                               {"agent", dir, "gpu-1", "--tenants=acme,*"},
		"dispatcher: --slots=-1 is out of range; give 1 or more":                                                {"agent", dir, "gpu-1", "--slots=-1"},
		"dispatcher: --max-payload=1024 KiB is out of range; give 1MiB or more":                                 {"tenant", dir, "acme", "--max-payload=1048575"},
		"dispatcher: expected \"<name>\"; see `dispatcher access tenant --help`":                                {"tenant", dir},
		dir + "-none: no access folder: make one with `dispatcher access init " + dir + "-none`":                {"list", dir + "-none"},
		"dispatcher: cannot reach NATS at nats://127.0.0.1:1: connection refused":                               {"push", dir, "--url=nats://127.0.0.1:1"},
	} {
		if code, out, say := keys(t, args...); code != 1 || out != "" || !strings.Contains(say, want) {
			t.Errorf("%v: code %d, %q, says %q, want %q", args, code, out, say, want)
		}
	}
	if code, _, say := keys(t, "revoke", dir, "tenant-nobody"); code != 1 || !strings.Contains(say, "tenant-nobody") {
		t.Errorf("revoke nobody: code %d, %q", code, say)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "creds")); err != nil || len(entries) != 1 { // the dispatcher's
		t.Errorf("refused commands have left credentials: %v, %v", entries, err)
	}
}
