package natsserver_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

func newFolder(t *testing.T) *natsserver.AccessFolder {
	t.Helper()
	folder, err := natsserver.InitAccess(filepath.Join(t.TempDir(), "herd"))
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// must gives the path of credentials.
func must(t *testing.T) func(path string, err error) string {
	t.Helper()
	return func(path string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// everything reads all files of a folder by their names in it.
func everything(t *testing.T, f *natsserver.AccessFolder) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(f.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(f.Dir(), path) // it lies within
		found[filepath.ToSlash(name)] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func all(t *testing.T, f *natsserver.AccessFolder) {
	t.Helper()
	must(t)(f.Tenant("acme", natsserver.TenantSettings{}))
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{Tenants: []string{"bolt", "acme"}, Slots: 2}))
	must(t)(f.Dispatcher())
	must(t)(f.Operator())
	must(t)(f.Watcher())
	must(t)(f.Gateway())
}

func TestCredentialsLieWhereTheirNameSays(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for want, path := range map[string]string{
		"tenant-acme.creds": must(t)(f.Tenant("acme", natsserver.TenantSettings{})),
		"agent-gpu-1.creds": must(t)(f.Agent("gpu-1", natsserver.AgentSettings{})),
		"dispatcher.creds":  must(t)(f.Dispatcher()),
		"operator.creds":    must(t)(f.Operator()),
		"watcher.creds":     must(t)(f.Watcher()),
		"gateway.creds":     must(t)(f.Gateway()),
	} {
		if path != filepath.Join(f.Dir(), "creds", want) {
			t.Errorf("%s is at %s", want, path)
		}
	}
}

// A token is sent when connecting, in a line of which the server reads 4096 bytes. What else stands in it takes some 500.
func TestTokensFitIntoTheLineThatConnects(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, file := range []string{must(t)(f.Operator()), must(t)(f.Gateway()), must(t)(f.Dispatcher()), must(t)(f.Agent(strings.Repeat("x", 64), natsserver.AgentSettings{})), must(t)(f.Tenant(strings.Repeat("x", 64), natsserver.TenantSettings{}))} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if token, err := jwt.ParseDecoratedJWT(text); err != nil || len(token) > 3500 {
			t.Errorf("the token in %s has %d bytes, %v", filepath.Base(file), len(token), err)
		}
	}
}

func TestOthersCannotReadTheFolder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other permissions")
	}
	f := newFolder(t)
	all(t, f)
	err := filepath.WalkDir(f.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s is %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestACommandThatIsRepeatedChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	all(t, f)
	before := everything(t, f)
	nextSecond(t) // a token that is signed anew has another time in it
	if _, err := natsserver.InitAccess(f.Dir()); err != nil {
		t.Fatal(err)
	}
	all(t, f)
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{})) // what is not said stays
	after := everything(t, f)
	delete(before, "revision")
	delete(after, "revision")
	for name := range before {
		if before[name] != after[name] {
			t.Errorf("%s is another file", name)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	for name := range after {
		if strings.Contains(name, ".new-") {
			t.Errorf("%s is left", name)
		}
	}
}

func nextSecond(t *testing.T) {
	t.Helper()
	now := time.Now()
	timer := time.NewTimer(now.Truncate(time.Second).Add(time.Second).Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

func TestSettingsAreChangedWithoutNewCredentials(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{Tenants: []string{"acme"}, Slots: 2}))
	before := everything(t, f)["creds/agent-gpu-1.creds"]
	for _, step := range []struct {
		set  natsserver.AgentSettings
		want natsserver.Holder
	}{
		{natsserver.AgentSettings{Slots: 3}, natsserver.Holder{Tenants: []string{"acme"}, Slots: 3}},
		{natsserver.AgentSettings{Tenants: []string{"carl", "bolt", "carl"}}, natsserver.Holder{Tenants: []string{"bolt", "carl"}, Slots: 3}},
		{natsserver.AgentSettings{Tenants: []string{natsserver.Everyone}}, natsserver.Holder{Slots: 3}},
	} {
		must(t)(f.Agent("gpu-1", step.set))
		holders, err := f.List()
		if err != nil || len(holders) != 1 {
			t.Fatalf("%v, %v", holders, err)
		}
		got := natsserver.Holder{Tenants: holders[0].Tenants, Slots: holders[0].Slots}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Error(diff)
		}
	}
	if everything(t, f)["creds/agent-gpu-1.creds"] != before {
		t.Error("the credentials have changed")
	}
}

func TestNamesThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Tenant("acme", natsserver.TenantSettings{}))
	for name, try := range map[string]func() (string, error){
		"path":         func() (string, error) { return f.Tenant("../x", natsserver.TenantSettings{}) },
		"wildcard":     func() (string, error) { return f.Tenant("*", natsserver.TenantSettings{}) },
		"empty":        func() (string, error) { return f.Agent("", natsserver.AgentSettings{}) },
		"dot":          func() (string, error) { return f.Agent("gpu.1", natsserver.AgentSettings{}) },
		"other case":   func() (string, error) { return f.Tenant("ACME", natsserver.TenantSettings{}) },
		"all and some": func() (string, error) { return f.Agent("a", natsserver.AgentSettings{Tenants: []string{"*", "b"}}) },
		"bad tenant":   func() (string, error) { return f.Agent("a", natsserver.AgentSettings{Tenants: []string{"b>"}}) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	for _, name := range []string{"", "tenant-", "tenant-zoo", "agent-acme", "system", "fleet", "watcher", "../operator", "dispatcher"} {
		if err := f.Revoke(name); !errors.Is(err, natsserver.ErrNobody) {
			t.Errorf("revoking %q: %v", name, err)
		}
	}
	if _, err := natsserver.OpenAccess(t.TempDir()); !errors.Is(err, natsserver.ErrNoAccessFolder) {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestCommandsMayRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "herd")
	var running sync.WaitGroup
	paths := make([]string, 16)
	for i := range paths {
		running.Go(func() {
			f, err := natsserver.InitAccess(dir)
			if err != nil {
				t.Error(err)
				return
			}
			host := "gpu-" + string(rune('a'+i/2)) // each twice
			if paths[i], err = f.Agent(host, natsserver.AgentSettings{}); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	f, err := natsserver.OpenAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	fleet := 0
	for name, body := range everything(t, f) {
		if claims, err := jwt.DecodeAccountClaims(body); strings.HasSuffix(name, ".jwt") && err == nil && claims.Name == "fleet" {
			fleet++
			if len(claims.Imports) != 24 { // offers, controls and pages of eight hosts
				t.Errorf("the fleet reaches %d subjects of hosts", len(claims.Imports))
			}
		}
	}
	if fleet != 1 {
		t.Errorf("there are %d fleets", fleet)
	}
}

func TestWhoIsRevokedIsListedNoMoreAndMayComeAgain(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	all(t, f)
	for _, name := range []string{"tenant-acme", "agent-gpu-1", "operator", "watcher", "gateway"} {
		before := everything(t, f)["creds/"+name+".creds"]
		if err := f.Revoke(name); err != nil {
			t.Fatal(err)
		}
		holders, err := f.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range holders {
			if h.File() == name {
				t.Errorf("%s is still listed", name)
			}
		}
		if files := everything(t, f); files["creds/"+name+".creds"] != "" || files["keys/"+name+".nk"] != "" {
			t.Errorf("the keys of %s are left", name)
		}
		all(t, f)
		if now := everything(t, f)["creds/"+name+".creds"]; now == "" || now == before {
			t.Errorf("%s has no new credentials", name)
		}
	}
}

func TestATrackerTellsWhatIsNewAndTheFleetLast(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Tenant("early", natsserver.TenantSettings{}))
	tracker, err := f.Track()
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		err := tracker.Run(ctx, func(token string) error {
			claims, err := jwt.DecodeAccountClaims(token)
			if err == nil {
				told <- claims.Name
			}
			return err
		}, func(err error) { t.Error(err) })
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{}))
	for _, want := range []string{"agent-gpu-1", "fleet"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told of %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not told", want)
		}
	}
}

func TestNoPrivateKeyIsInWhatOthersGet(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	all(t, f)
	files := everything(t, f)
	for name, key := range files {
		if !strings.HasSuffix(name, ".nk") {
			continue
		}
		for other, body := range files {
			if other != name && strings.Contains(body, strings.TrimSpace(key)) {
				t.Errorf("%s has the key of %s", other, name)
			}
		}
	}
	if len(files["nats-server.conf"]) == 0 {
		t.Error("there is no nats-server.conf")
	}
}

// NATS closes a connection that exceeds its limit, and does not tell the client the limit before. So a piece of a file, 512 KiB
// with its headers, must fit.
func TestATenantMaySendAPieceOfAFile(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, small := range []int64{-1, 1, 512 << 10, 1<<20 - 1} {
		if _, err := f.Tenant("acme", natsserver.TenantSettings{MaxPayload: small}); err == nil || !strings.Contains(err.Error(), "give at least 1048576") {
			t.Errorf("%d bytes: %v", small, err)
		}
	}
	if _, err := f.Tenant("acme", natsserver.TenantSettings{MaxPayload: 1 << 20}); err != nil {
		t.Error(err)
	}
}
