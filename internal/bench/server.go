package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// place is where NATS is for one stage: an embedded server with a folder of its own, or one that was named.
type place struct {
	url     string
	server  embeddedNATS // nil when it was named
	folder  string       // of its files
	root    string       // to be removed
	conns   []*nats.Conn
	holders *holders                // of a closed fleet; nil when the fleet is open
	fail    context.CancelCauseFunc // ends the stage
}

// open gives NATS for one stage, and a context that ends, with the reason as its cause, when NATS fails.
func open(ctx context.Context, cfg *Config, closed bool) (context.Context, *place, error) {
	ctx, fail := context.WithCancelCause(ctx)
	p, err := find(cfg, closed, fail)
	if err != nil {
		fail(err)
		return nil, nil, err
	}
	return ctx, p, nil
}

func find(cfg *Config, closed bool, fail context.CancelCauseFunc) (*place, error) {
	if cfg.NATSURL != "" {
		return &place{url: cfg.NATSURL, fail: fail}, nil
	}
	if cfg.StoreDir != "" {
		if err := os.MkdirAll(cfg.StoreDir, 0o755); err != nil {
			return nil, fmt.Errorf("make the folder for NATS: %w", err)
		}
	}
	folder, err := os.MkdirTemp(cfg.StoreDir, "comfyherd-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for NATS: %w", err)
	}
	p := &place{folder: filepath.Join(folder, "nats"), root: folder, fail: fail}
	var started atomic.Bool // before that, servers of a cluster complain that others are not there yet
	complain := func(err error) {
		if started.Load() {
			fail(err)
		}
	}
	options := natsserver.Config{
		Port: -1, StoreDir: p.folder, SyncAlways: cfg.SyncAlways, SyncInterval: cfg.SyncEvery, Logger: slog.New(alarm{fail: complain}),
	}
	if closed {
		if p.holders, err = makeHolders(cfg, filepath.Join(folder, "access")); err != nil {
			return nil, errors.Join(err, os.RemoveAll(folder))
		}
		options.Access = p.holders.server
	}
	if p.server, err = startNATS(cfg.Replicas, options); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	started.Store(true)
	p.url = p.server.URL()
	return p, nil
}

// embeddedNATS is one server, or a cluster.
type embeddedNATS interface {
	URL() string
	Close() error
}

// startNATS starts as many servers as there are to be copies.
func startNATS(replicas int, options natsserver.Config) (embeddedNATS, error) {
	if replicas > 1 {
		return natsserver.StartCluster(replicas, options)
	}
	return natsserver.Start(options)
}

// alarm ends the stage at the first error that the embedded NATS logs, such as a full disk: otherwise the publishers would try again
// for ever.
type alarm struct {
	fail context.CancelCauseFunc
}

func (alarm) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (a alarm) Handle(_ context.Context, line slog.Record) error {
	a.fail(fmt.Errorf("NATS failed: %s", line.Message))
	return nil
}

func (a alarm) WithAttrs([]slog.Attr) slog.Handler { return a }

func (a alarm) WithGroup(string) slog.Handler { return a }

// loopback refuses to load any machine but this one. The addresses have the forms that nats.go takes.
func loopback(ctx context.Context, urls string) error {
	for one := range strings.SplitSeq(urls, ",") {
		if one = strings.TrimSpace(one); !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		if err := loopbackOnly(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func loopbackOnly(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("read the NATS address: %w", err)
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return fmt.Errorf("look up %s: %w", u.Hostname(), err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return fmt.Errorf("%s is not this machine: bench loads NATS to its limit and leaves streams there; run bench on the machine of a NATS of its own", u.Host)
		}
	}
	return nil
}

// bare connects with nats.go and nothing else.
func (p *place) bare(options ...nats.Option) (*nats.Conn, error) {
	options = append(options, nats.Timeout(10*time.Second), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) {
		p.fail(fmt.Errorf("the connection to NATS at %s was lost", p.url))
	}))
	nc, err := nats.Connect(p.url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", p.url, err)
	}
	p.conns = append(p.conns, nc)
	return nc, nil
}

// publisher publishes on a bare connection. What NATS does not store fails the stage.
func (p *place) publisher(nc *nats.Conn) (natsjs.JetStream, error) {
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(1024),
		natsjs.WithPublishAsyncErrHandler(func(_ natsjs.JetStream, msg *nats.Msg, err error) {
			p.fail(fmt.Errorf("NATS did not store %s: %w", msg.Subject, err))
		}))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// send publishes without waiting for the answer, as soon as there are not too many without one.
func send(ctx context.Context, js natsjs.JetStream, msg *nats.Msg) error {
	for {
		_, err := js.PublishMsgAsync(msg, natsjs.WithStallWait(time.Second))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, natsjs.ErrTooManyStalledMsgs) {
			return err
		}
	}
}

// connect connects as the commands do, with a file of credentials or without.
func (p *place) connect(ctx context.Context, name, creds string) (*nats.Conn, error) {
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: p.url, Name: name, Creds: creds})
	if err != nil {
		return nil, err
	}
	p.conns = append(p.conns, nc)
	return nc, nil
}

// diskBytes is the size of the files of an embedded NATS; 0 for another NATS, whose files cannot be read.
func (p *place) diskBytes() int64 {
	sum := int64(0)
	if p.folder == "" {
		return sum
	}
	_ = filepath.WalkDir(p.folder, func(_ string, entry fs.DirEntry, err error) error { // a file may be removed meanwhile
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

func (p *place) close() error {
	p.fail(nil) // from here on a lost connection is no failure
	for _, nc := range p.conns {
		nc.Close()
	}
	if p.server == nil {
		return nil
	}
	return errors.Join(p.server.Close(), os.RemoveAll(p.root))
}
