package natsserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// The defaults that a zero Config stands for.
const (
	DefaultHost       = "127.0.0.1"
	DefaultPort       = 4222
	DefaultMaxPayload = 8 << 20
)

// readyWait bounds how long Start waits for connections and JetStream.
const readyWait = 10 * time.Second

// pingInterval is how often the server pings a silent client. Two unanswered pings end the
// connection; with the server's own default a cut cable would be noticed after minutes.
const pingInterval = 10 * time.Second

var (
	// ErrPortTaken says that something else listens on the wanted port. Start's
	// error wraps it and names the address.
	ErrPortTaken = errors.New("the port is taken")

	// ErrStoreInUse says that another server, in this process or another, holds
	// the store directory. Start's error wraps it and names the directory.
	ErrStoreInUse = errors.New("the store directory is in use")

	// ErrNotReady says that the server did not become ready within 10 s.
	ErrNotReady = errors.New("not ready in time")
)

// Config says what server to start. Only StoreDir is required.
type Config struct {
	// Name is the server's name in logs and in a cluster; empty lets nats-server choose one.
	Name string
	// Host is the address to listen on; empty is 127.0.0.1.
	Host string
	// Port is the port for clients: 0 is 4222, -1 any free one.
	Port int
	// StoreDir is the directory for the streams; it is made when missing.
	StoreDir string
	// SyncInterval is how often written data is fsynced, which bounds what a loss of
	// power may lose; 0 is nats-server's own 2 min. A killed process loses nothing.
	SyncInterval time.Duration
	// SyncAlways fsyncs before every publish ack: some 20 times slower, nothing lost.
	SyncAlways bool
	// MaxPayload is the largest message in bytes; 0 is 8 MiB.
	MaxPayload int32
	// MaxStore is how many bytes JetStream may store; 0 is three quarters of the disk that is free or holds its data.
	MaxStore int64
	// Access, unless nil, lets only clients with credentials of its accounts connect.
	Access *Access
	// Token is the token that clients must send to connect; empty: none is needed. It is ignored with Access.
	Token string
	// TLSCert and TLSKey are PEM files; with them the server speaks TLS with every client on a socket.
	TLSCert, TLSKey string
	// Logger takes the server's own lines: its notices at debug level, warnings and errors at theirs.
	// Nil drops them.
	Logger *slog.Logger
}

// Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	nats   *server.Server
	lock   *dirLock
	url    string
	token  string
	access *Access

	applying sync.Mutex        // guards applied, and is held while it changes
	applied  map[string]string // the token of each account that was updated last
}

// Start starts a server and returns when it takes connections and JetStream is ready.
// It fails with ErrPortTaken, ErrStoreInUse, ErrNotReady, or with what nats-server or
// the file system said; then nothing is left running and the directory is free.
func Start(cfg Config) (*Server, error) {
	return start(cfg, route{})
}

// start takes the directory, then the port, then starts the server: in this order a
// second `dispatcher run` by mistake is told first that its data is in use.
func start(cfg Config, r route) (*Server, error) {
	opts, err := options(cfg, r)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(opts.StoreDir)
	if err != nil {
		return nil, err
	}
	s, err := run(opts, cfg.Logger)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return &Server{nats: s, lock: lock, url: s.ClientURL(), token: opts.Authorization, access: cfg.Access, applied: map[string]string{}}, nil
}

func options(cfg Config, r route) (*server.Options, error) {
	opts := &server.Options{
		ServerName:        cfg.Name,
		Host:              cfg.Host,
		Port:              cfg.Port,
		JetStream:         true,
		StoreDir:          cfg.StoreDir,
		SyncInterval:      cfg.SyncInterval,
		SyncAlways:        cfg.SyncAlways,
		MaxPayload:        cfg.MaxPayload,
		JetStreamMaxStore: cfg.MaxStore,
		PingInterval:      pingInterval,
		MaxPingsOut:       2,
		// Otherwise the first ping comes 2 s after CONNECT, only to measure the round trip. When an account's first load takes
		// longer, that ping precedes the answer to CONNECT, and nats.go fails with "expected 'PONG', got 'PING'".
		DisableShortFirstPing: true,
		NoSigs:                true, // the process handles signals, not the server
	}
	if opts.Host == "" {
		opts.Host = DefaultHost
	}
	if opts.Port == 0 {
		opts.Port = DefaultPort
	}
	if opts.MaxPayload == 0 {
		opts.MaxPayload = DefaultMaxPayload
	}
	r.apply(opts)
	return opts, guard(opts, cfg)
}

func run(opts *server.Options, log *slog.Logger) (*server.Server, error) {
	if err := portFree(opts.Host, opts.Port); err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	lines := newLines(log)
	s.SetLoggerV2(lines, false, false, false)
	s.Start()
	if err := awaitReady(s, lines); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, err
	}
	return s, nil
}

// awaitReady waits for the listener; JetStream is enabled before it, so a server that
// listens without JetStream has reported a fatal error, which nats-server only logs.
func awaitReady(s *server.Server, lines *lines) error {
	if msg := lines.fatal(); msg != "" {
		return fmt.Errorf("start the embedded NATS server: %s", msg)
	}
	if !s.ReadyForConnections(readyWait) {
		return fmt.Errorf("embedded NATS server takes no connections after %s: %w", readyWait, ErrNotReady)
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("embedded NATS server runs without JetStream after %s: %w", readyWait, ErrNotReady)
	}
	return nil
}

// portFree finds out by listening, because nats-server reports a taken port only in its log.
func portFree(host string, port int) error {
	if port < 0 {
		return nil
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("start NATS on %s: %w: to use the NATS that listens there set NATS_URL=nats://%s, "+
			"otherwise stop it or choose another port", addr, ErrPortTaken, addr)
	}
	if err != nil {
		return fmt.Errorf("start NATS on %s: %w; choose an address of this machine", addr, err)
	}
	return l.Close()
}

// URL is the address for clients, as in nats://127.0.0.1:4222.
func (s *Server) URL() string { return s.url }

// MaxStore is how many bytes JetStream may store.
func (s *Server) MaxStore() int64 {
	cfg := s.nats.JetStreamConfig()
	if cfg == nil { // it is closed
		return 0
	}
	return cfg.MaxStore
}

// ConnectOptions lets nats.Connect reach the server through a pipe in memory, without
// a socket; the URL given beside them is ignored. Such a connection ends with the server.
func (s *Server) ConnectOptions() []nats.Option {
	opts := []nats.Option{nats.InProcessServer(s.nats)}
	if s.token != "" {
		opts = append(opts, nats.Token(s.token))
	}
	return opts
}

// Close stops the server, waits until its files are written and closed, and frees the
// store directory. Clients that are still connected lose their connection.
// Closing twice does nothing.
func (s *Server) Close() error {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
	return s.lock.release()
}
