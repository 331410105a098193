package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// guarded is `dispatcher run` whose NATS listens on every address of this machine.
type guarded struct {
	url   string // on loopback
	store string
	stop  func()

	mu   sync.Mutex // guards said
	said strings.Builder
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.said.Write(p)
}

func (g *guarded) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.said.String()
}

func runGuarded(t *testing.T, store string, args ...string) *guarded {
	t.Helper()
	g := &guarded{store: store}
	said, say := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		all := append([]string{"run", "--embedded", "--listen=0.0.0.0:0", "--store-dir=" + store, "--log-level=error"}, args...)
		if code := main.Run(ctx, all, nil, io.Discard, io.MultiWriter(g, say)); code != 0 {
			t.Errorf("dispatcher run ended with %d: %s", code, g.text())
		}
		_ = say.Close() // a pipe's Close never fails
	})
	g.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(g.stop)
	at, err := url.Parse(addressIn(t, said, &running))
	if err != nil {
		t.Fatal(err)
	}
	g.url = "nats://127.0.0.1:" + at.Port()
	deadline := time.After(testTimeout) // its streams are made then: a server that is closed before leaves goroutines behind
	for tick := time.Tick(10 * time.Millisecond); !strings.Contains(g.text(), "\nstop "); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("dispatcher run is not ready:\n%s", g.text())
		}
	}
	return g
}

// token is the word in the file, which nobody else can read.
func (g *guarded) token(t *testing.T) string {
	t.Helper()
	path := filepath.Join(g.store, "token")
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file is %v, %v", info.Mode(), err)
	}
	return strings.TrimSpace(string(body))
}

func try(t *testing.T, n daemon.NATS) error {
	t.Helper()
	nc, err := daemon.Connect(t.Context(), n)
	if err == nil {
		nc.Close()
	}
	return err
}

// An embedded NATS that other machines can reach asks for a token.
func TestBeyondThisMachineTheEmbeddedNATSAsksForAToken(t *testing.T) {
	t.Parallel()
	g := runGuarded(t, t.TempDir())
	token := g.token(t)
	if err := try(t, daemon.NATS{URL: g.url}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without the token: %v", err)
	}
	if err := try(t, daemon.NATS{URL: g.url, Token: "wrong"}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("with another token: %v", err)
	}
	if err := try(t, daemon.NATS{URL: g.url, Token: token}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if err := try(t, daemon.NATS{URL: strings.Replace(g.url, "nats://", "nats://"+token+"@", 1)}); err != nil {
		t.Errorf("with the token in the URL: %v", err)
	}
	if strings.Count(g.text(), token) != 1 {
		t.Errorf("the token is not told once:\n%s", g.text())
	}
	g.stop()
	again := runGuarded(t, g.store)
	if err := try(t, daemon.NATS{URL: again.url, Token: token}); err != nil {
		t.Errorf("after another start: %v", err)
	}
	if strings.Contains(again.text(), token) {
		t.Errorf("the token is told again:\n%s", again.text())
	}
}

func TestATokenOfOnesOwnOrNoneIsTakenAsSaid(t *testing.T) {
	t.Parallel()
	own := runGuarded(t, t.TempDir(), "--token=sesame")
	if err := try(t, daemon.NATS{URL: own.url, Token: "sesame"}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if err := try(t, daemon.NATS{URL: own.url}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without the token: %v", err)
	}
	if strings.Contains(own.text(), "sesame") {
		t.Errorf("a token of one's own is told:\n%s", own.text())
	}
	open := runGuarded(t, t.TempDir(), "--insecure")
	if err := try(t, daemon.NATS{URL: open.url}); err != nil {
		t.Errorf("with --insecure: %v", err)
	}
}

func TestTheEmbeddedNATSSpeaksTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	g := runGuarded(t, t.TempDir(), "--insecure", "--tls-cert="+cert, "--tls-key="+key)
	if err := try(t, daemon.NATS{URL: strings.Replace(g.url, "nats://", "tls://", 1), CA: cert}); err != nil {
		t.Errorf("with the authority: %v", err)
	}
	if err := try(t, daemon.NATS{URL: g.url}); err == nil {
		t.Error("a client that does not trust the certificate is connected")
	}
}

func TestWaysToCloseNATSDoNotContradictEachOther(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--token=a", "--insecure"}, {"--access=x", "--token=a"}, {"--access=x", "--insecure"}, {"--tls-cert=x"}, {"--access=" + t.TempDir()},
	} {
		all := append([]string{"run", "--embedded", "--listen=127.0.0.1:0", "--store-dir=" + t.TempDir()}, args...)
		var said strings.Builder
		if code := main.Run(t.Context(), all, nil, io.Discard, &said); code != 1 {
			t.Errorf("%q ended with %d: %s", args, code, said.String())
		}
	}
}

// certificate is a PEM file for 127.0.0.1 that is its own authority, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, form, form, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, body []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", signed), write("key.pem", "PRIVATE KEY", secret)
}
