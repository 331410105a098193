package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// guard is how the embedded NATS authenticates: by a folder of keys, by one token, or not at all.
type guard struct {
	folder *natsserver.AccessFolder // nil: by token, or not at all
	creds  string                   // of the dispatcher, with a folder
	token  bool                     // NATS asks for one

	tracker *natsserver.Tracker
	q       atomic.Pointer[queue.Queue] // where grants of hosts are stored; nil: nowhere yet
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// close stops following the folder. Closing none does nothing.
func (g *guard) close() {
	if g != nil && g.stop != nil {
		g.stop()
		g.done.Wait()
	}
}

// tokenFile is where the embedded NATS keeps the token that it made, in its store folder.
const tokenFile = "token"

// Validate refuses flags that contradict each other.
func (e *embeddedFlags) Validate() error {
	switch {
	case e.Access != "" && e.Token != "":
		return errors.New("--access and --token cannot be combined: give the folder of keys or the token")
	case e.Insecure && (e.Access != "" || e.Token != ""):
		return errors.New("--insecure accepts every connection, and --access and --token do not; give one of them")
	}
	return nil
}

// guard sets in cfg who may connect.
func (e *embeddedFlags) guard(cfg *natsserver.Config, say func(format string, args ...any)) (*guard, error) {
	if e.Access != "" {
		return e.accounts(cfg)
	}
	cfg.Token = e.Token
	if e.Token == "" && !e.Insecure && !onlyHere(cfg.Host) {
		token, made, err := keptToken(cfg.StoreDir)
		if err != nil {
			return nil, err
		}
		cfg.Token = token
		path := filepath.Join(cfg.StoreDir, tokenFile)
		if made {
			say("token     %s", token)
			say("          others connect with NATS_TOKEN set to it; it is kept in %s and not shown again (--insecure asks for none)", path)
		} else {
			say("token     others connect with NATS_TOKEN set to what %s holds", path)
		}
	}
	return &guard{token: cfg.Token != ""}, nil
}

// closed reports whether the embedded NATS asks for anything.
func (g *guard) closed() bool { return g != nil && (g.folder != nil || g.token) }

func (e *embeddedFlags) accounts(cfg *natsserver.Config) (*guard, error) {
	folder, err := natsserver.OpenAccess(e.Access)
	if err != nil {
		return nil, err
	}
	creds, err := folder.Dispatcher()
	if err != nil {
		return nil, err
	}
	access, err := folder.Access()
	if err != nil {
		return nil, err
	}
	tracker, err := folder.Track()
	if err != nil {
		return nil, err
	}
	cfg.Access = access
	return &guard{folder: folder, creds: creds, tracker: tracker}, nil
}

// credentials are what a tenant and an agent set in their environments, with a name to be filled in.
func (g *guard) credentials() (tenant, agent string) {
	if g == nil || g.folder == nil {
		return "", ""
	}
	dir := filepath.Join(g.folder.Dir(), "creds")
	return "NATS_CREDS=" + filepath.Join(dir, "tenant-NAME.creds") + " ", "NATS_CREDS=" + filepath.Join(dir, "agent-HOST.creds") + " "
}

// follow passes changes of the folder to the server, until the guard is closed.
func (g *guard) follow(server *natsserver.Server, log *slog.Logger) {
	if g.tracker == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.done.Go(func() {
		tell := func(token string) error {
			if err := g.granted(ctx, token); err != nil {
				return err
			}
			return server.UpdateAccount(token)
		}
		_ = g.tracker.Run(ctx, tell, func(err error) { // it ends with ctx only
			log.Error("cannot follow the access folder, trying again", "error", err)
		})
	})
}

// onlyHere reports whether an address can be reached from this machine only.
func onlyHere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || ip != nil && ip.IsLoopback()
}

// keptToken reads the token in the store folder, and makes it when there is none.
func keptToken(dir string) (token string, made bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("make the store directory %s: %w: choose another directory", dir, err)
	}
	path := filepath.Join(dir, tokenFile)
	text, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(text)) != "" {
		return strings.TrimSpace(string(text)), false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("read the token that NATS asks for: %w", err)
	}
	token = rand.Text()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("keep the token that NATS asks for: %w", err)
	}
	return token, true, nil
}
