package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// embeddedFlags concern the NATS in this process and nothing else.
type embeddedFlags struct {
	Embedded bool   `help:"Run NATS in this process even when NATS_URL is set."`
	Listen   string `placeholder:"ADDR" unset:"127.0.0.1:4222" help:"Where the embedded NATS listens; beyond this machine it asks for a token. Port 0 is any free one."`
	Access   string `type:"path" placeholder:"DIR" help:"Close the embedded NATS: it accepts only credentials from this folder; see dispatcher access."`
	Token    string `placeholder:"TOKEN" unset:"none on this machine; beyond it, one that is made and kept in the store folder" help:"Token that the embedded NATS asks for."`
	Insecure bool   `help:"Have the embedded NATS accept every connection."`
	StoreDir string `type:"path" placeholder:"DIR" unset:"comfyherd in the user's data folder" help:"Where the embedded NATS keeps its data."`
	Sync     string `placeholder:"always|DURATION" unset:"2m" help:"How often the embedded NATS syncs its data to disk. With always, a power cut loses nothing, and publishing is some 20 times slower; a killed process never loses anything."`
}

// unused says what was asked of the embedded NATS although another one was named.
func (e *embeddedFlags) unused(url string) string {
	var given []string
	for _, flag := range []struct{ name, value string }{{"--listen", e.Listen}, {"--store-dir", e.StoreDir}, {"--sync", e.Sync}, {"--access", e.Access}, {"--token", e.Token}} {
		if flag.value != "" {
			given = append(given, flag.name)
		}
	}
	if url == "" || e.Embedded || len(given) == 0 {
		return ""
	}
	return strings.Join(given, ", ") + " concern the NATS in this process, but NATS_URL names another, which is used; add --embedded, or unset NATS_URL"
}

// start starts NATS; cert and key are its own, empty without TLS.
func (e *embeddedFlags) start(cert, key string, c *daemon.Console, log *slog.Logger) (*natsserver.Server, *guard, error) {
	cfg := natsserver.Config{Name: "comfyherd", Logger: log, TLSCert: cert, TLSKey: key}
	var err error
	if cfg.Host, cfg.Port, err = listenAddress(e.Listen); err != nil {
		return nil, nil, err
	}
	if cfg.SyncAlways, cfg.SyncInterval, err = syncPolicy(e.Sync); err != nil {
		return nil, nil, err
	}
	if e.StoreDir == "" {
		if e.StoreDir, err = dataDir(os.Getenv, os.UserHomeDir); err != nil {
			return nil, nil, err
		}
	}
	cfg.StoreDir = e.StoreDir
	guard, err := e.guard(&cfg, c.Say)
	if err != nil {
		return nil, nil, err
	}
	server, err := natsserver.Start(cfg)
	if err != nil {
		return nil, nil, err
	}
	guard.follow(server, log)
	return server, guard, nil
}

// listenAddress reads --listen; empty is the embedded server's default, port 0 any free one.
func listenAddress(addr string) (host string, port int, err error) {
	if addr == "" {
		return "", 0, nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("--listen %q is not an address; write it like 127.0.0.1:4222 or 0.0.0.0:4222", addr)
	}
	if port == 0 {
		port = -1
	}
	return cmp.Or(host, "0.0.0.0"), port, nil
}

func syncPolicy(text string) (always bool, every time.Duration, err error) {
	switch text {
	case "":
		return false, 0, nil
	case "always":
		return true, 0, nil
	}
	every, err = time.ParseDuration(text)
	if err != nil || every <= 0 {
		return false, 0, fmt.Errorf("--sync %q is neither always nor a duration; write it like always or 10s", text)
	}
	if every < time.Millisecond { // nats-server panics at the shortest
		return false, 0, fmt.Errorf("--sync %s is too short; give at least 1ms, or always", text)
	}
	return false, every, nil
}

// dataDir is where the user's programs keep data: $XDG_DATA_HOME, or what the system has in its place.
func dataDir(env func(string) string, home func() (string, error)) (string, error) {
	if dir := env("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "comfyherd"), nil
	}
	if dir := env("LocalAppData"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "comfyherd"), nil
	}
	dir, err := home()
	if err != nil {
		return "", errors.New("the user has no home folder for the data of the embedded NATS; give a folder with --store-dir")
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(dir, "Library", "Application Support", "comfyherd"), nil
	}
	return filepath.Join(dir, ".local", "share", "comfyherd"), nil
}
