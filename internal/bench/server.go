package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/embedded"
)

// place is where NATS is for one stage: an embedded server with a folder of its own, or one that was named.
type place struct {
	url    string
	server *embedded.Server
	folder string
	conns  []*nats.Conn
}

func open(cfg *Config) (*place, error) {
	if cfg.NATSURL != "" {
		return &place{url: cfg.NATSURL}, loopback(cfg.NATSURL)
	}
	folder, err := os.MkdirTemp(cfg.StoreDir, "comfyherd-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for NATS: %w", err)
	}
	server, err := embedded.Start(embedded.Config{
		Port: -1, StoreDir: folder, SyncAlways: cfg.SyncAlways, SyncInterval: cfg.SyncEvery,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return &place{url: server.URL(), server: server, folder: folder}, nil
}

// loopback refuses to load any machine but this one.
func loopback(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("read the NATS address: %w", err)
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(context.Background(), u.Hostname())
	if err != nil {
		return fmt.Errorf("look up %s: %w", u.Hostname(), err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return fmt.Errorf("%s is not this machine: bench loads NATS as far as it goes and leaves streams behind; run it beside its own NATS", u.Host)
		}
	}
	return nil
}

// bare connects with nats.go and nothing else.
func (p *place) bare() (*nats.Conn, error) {
	nc, err := nats.Connect(p.url, nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", p.url, err)
	}
	p.conns = append(p.conns, nc)
	return nc, nil
}

// connect connects as the commands do.
func (p *place) connect(ctx context.Context, name string) (*nats.Conn, error) {
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: p.url, Name: name})
	if err != nil {
		return nil, err
	}
	p.conns = append(p.conns, nc)
	return nc, nil
}

// diskBytes is what the files of an embedded NATS have by now; 0 of another, whose files are not ours to look at.
func (p *place) diskBytes() int64 {
	sum := int64(0)
	if p.folder == "" {
		return sum
	}
	_ = filepath.WalkDir(p.folder, func(_ string, entry fs.DirEntry, err error) error { // a file may go meanwhile
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
	for _, nc := range p.conns {
		nc.Close()
	}
	if p.server == nil {
		return nil
	}
	return errors.Join(p.server.Close(), os.RemoveAll(p.folder))
}
