package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// link is the connection of the dispatcher to NATS, and NATS itself when it is embedded.
type link struct {
	*nats.Conn
	url    string             // to which agents and commands connect
	server *natsserver.Server // nil when NATS is not embedded
	guard  *guard             // of the server
}

// room is the size of all streams together: three quarters of what the server may store, when it is in this process.
func (l *link) room() int64 {
	if l.server == nil {
		return queue.AskNATS
	}
	return l.server.MaxStore() / 4 * 3
}

func (l *link) close() error {
	l.Close()
	if l.server == nil {
		return nil
	}
	l.guard.close()
	return l.server.Close()
}

// connect reaches the NATS that was named, or starts one.
func (r *runCmd) connect(ctx context.Context, c *daemon.Console, log *slog.Logger) (*link, error) {
	to := r.NATS("dispatcher", log)
	if hint := r.unused(r.URL); hint != "" {
		c.Say("note      %s", hint)
	}
	if r.URL != "" && !r.Embedded {
		var nc *nats.Conn
		err := daemon.Begin(ctx, r.Retry, log, func(ctx context.Context) (err error) {
			nc, err = daemon.Connect(ctx, to)
			return err
		})
		if err != nil {
			return nil, err
		}
		c.Say("NATS      %s", nc.ConnectedUrlRedacted())
		return &link{Conn: nc, url: nc.ConnectedUrlRedacted()}, nil
	}
	return r.embed(ctx, c, log)
}

// embed starts NATS in this process and connects to it through memory. The certificate is the server's.
func (r *runCmd) embed(ctx context.Context, c *daemon.Console, log *slog.Logger) (*link, error) {
	server, guard, err := r.start(r.Cert, r.Key, c, log)
	if err != nil {
		return nil, err
	}
	if most := daemon.Size(server.MaxStore()); r.MaxDisk > most {
		guard.close()
		return nil, errors.Join(fmt.Errorf("--max-disk %s is more than NATS may store here, which is %s, three quarters of the free disk; free some disk, or give less", r.MaxDisk, most), server.Close())
	}
	to := r.NATS("dispatcher", log)
	to.Creds, to.NKey, to.User, to.Password, to.Token = guard.creds, "", "", "", ""
	to.CA, to.Cert, to.Key = "", "", ""
	to.Options = server.ConnectOptions()
	nc, err := daemon.Connect(ctx, to)
	if err != nil {
		guard.close()
		return nil, errors.Join(err, server.Close())
	}
	c.Say("NATS      %s, in this process; its data is in %s", server.URL(), r.StoreDir)
	if guard.folder != nil {
		c.Say("access    only with credentials from %s; see `dispatcher access --help`", guard.folder.Dir())
	}
	return &link{Conn: nc, url: server.URL(), server: server, guard: guard}, nil
}
