package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// dialTimeout bounds one attempt to reach one server.
	dialTimeout = 5 * time.Second

	// A lost server is tried again after 100 ms, then after twice that, up to 2 s.
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 2 * time.Second

	// Two pings without an answer end a connection, so that a cut cable is noticed after
	// some 20 s; nats.go's own default takes 4 to 6 min.
	pingInterval = 10 * time.Second
	pingsOut     = 2
)

// NATS says how to reach NATS and as whom. Only URL is required.
type NATS struct {
	// URL is one address or several, separated by commas: nats://host:4222,
	// tls://…, ws://…, or only host:port.
	URL string
	// Name is shown in the server's list of connections.
	Name string

	// Creds is a .creds file (JWT and seed).
	Creds string
	// NKey is a file with an nkey's seed.
	NKey string
	// User and Password are the plain way; Password alone is taken as a token, as Token is.
	User, Password, Token string

	// Inbox is the prefix of the subjects that answers come to. Empty is what the creds file says, else nats.go's own.
	Inbox string

	// CA is a PEM file of the authorities to trust instead of the system's.
	CA string
	// Cert and Key are PEM files with which this process identifies itself to the server.
	Cert, Key string

	// Log takes a line for each loss and return of the connection and for each asynchronous error. Nil drops them.
	Log *slog.Logger
	// Options are appended to the ones made here, as for an in-process server.
	Options []nats.Option
}

// Connect connects to NATS, and from then on stays connected: it reconnects for ever,
// within 2 s of the server's return, also after a refusal of credentials, which may
// be a server in the middle of a reload.
//
// The first connection is tried once, on every address, because a wrong address must
// be an error at once; it says what to do next. ctx bounds the first connection only.
//
// A caller that sets another reconnect or disconnect handler on the connection must
// have it call the one that was there before, which writes the log.
func Connect(ctx context.Context, n NATS) (*nats.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts, err := n.options(ctx)
	if err != nil {
		return nil, err
	}
	var g gatherer
	nc, err := nats.Connect(n.URL, append(opts, g.option)...)
	if err != nil {
		g.end()
		return nil, n.explain(err)
	}
	if err := ctx.Err(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

func (n NATS) options(ctx context.Context) ([]nats.Option, error) {
	log := n.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	opts := []nats.Option{
		nats.Name(n.Name),
		nats.Timeout(addressTimeout(ctx)),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.DisconnectErrHandler(disconnected(log)),
		nats.ReconnectHandler(reconnected(log)),
		nats.ErrorHandler(failed(log)),
	}
	identity, err := n.identity()
	if err != nil {
		return nil, err
	}
	opts = append(opts, identity...)
	if inbox := n.inbox(); inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(inbox))
	}
	secure, err := n.tls()
	if err != nil {
		return nil, err
	}
	opts = append(opts, secure...)
	return append(opts, n.Options...), nil
}

// addressTimeout is how long one address may take: 5 s, or less when ctx ends before.
func addressTimeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Millisecond, min(dialTimeout, time.Until(deadline)))
	}
	return dialTimeout
}

// reconnectDelay is the wait after the given number of rounds through all servers:
// doubled each time, and shortened by up to half so that a fleet does not return at once.
func reconnectDelay(rounds int) time.Duration {
	wait := reconnectMost
	if rounds < 6 {
		wait = min(wait, reconnectFirst<<max(0, rounds-1))
	}
	return wait/2 + rand.N(wait/2)
}

func (n NATS) identity() ([]nats.Option, error) {
	switch {
	case n.Creds != "" && n.NKey != "":
		return nil, errors.New("connect to NATS: a creds file and an nkey are given; use one of them")
	case n.Creds != "":
		if err := readable(n.Creds); err != nil {
			return nil, fmt.Errorf("read the creds file: %w; check NATS_CREDS", err)
		}
		return []nats.Option{nats.UserCredentials(n.Creds)}, nil
	case n.NKey != "":
		opt, err := nats.NkeyOptionFromSeed(n.NKey)
		if err != nil {
			return nil, fmt.Errorf("read the nkey seed file %s: %w", n.NKey, err)
		}
		return []nats.Option{opt}, nil
	case n.User != "":
		return []nats.Option{nats.UserInfo(n.User, n.Password)}, nil
	case n.Password != "":
		return []nats.Option{nats.Token(n.Password)}, nil
	case n.Token != "":
		return []nats.Option{nats.Token(n.Token)}, nil
	}
	return nil, nil
}

// readable gives the error of a file that cannot be read, before the connection is tried. nats.go opens files only when it dials, so a missing
// file would look like a missing server.
func readable(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	return file.Close()
}

func (n NATS) tls() ([]nats.Option, error) {
	var opts []nats.Option
	if n.CA != "" {
		if err := readable(n.CA); err != nil {
			return nil, fmt.Errorf("read the authorities' PEM file: %w; check --tls-ca", err)
		}
		opts = append(opts, nats.RootCAs(n.CA))
	}
	if (n.Cert == "") != (n.Key == "") {
		return nil, errors.New("connect to NATS: a TLS certificate needs its key and a key its certificate; give both files")
	}
	if n.Cert != "" {
		if err := errors.Join(readable(n.Cert), readable(n.Key)); err != nil {
			return nil, fmt.Errorf("read the TLS certificate or its key: %w; check --tls-cert and --tls-key", err)
		}
		opts = append(opts, nats.ClientCert(n.Cert, n.Key))
	}
	return opts, nil
}

// explain turns a failed first connection into a sentence with a next step. It names
// the addresses without the passwords that may be in them.
func (n NATS) explain(err error) error {
	at := redact(n.URL)
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.Is(err, nats.ErrNoServers):
		// nats.go reports a refused connection as "no servers available".
		return fmt.Errorf("cannot reach NATS at %s: connection refused; start one with `dispatcher run --embedded` "+
			"or set NATS_URL: %w", at, err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return fmt.Errorf("NATS at %s refuses these credentials; check NATS_CREDS, NATS_TOKEN, or the user, password or nkey given: %w", at, err)
	case errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("NATS at %s does not answer; check the address and the firewall, or set NATS_URL: %w", at, err)
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of NATS at %s is not trusted; give its authority's PEM file: %w", at, err)
	}
	return fmt.Errorf("cannot reach NATS at %s; check NATS_URL: %w", at, err)
}

// redact drops user, password and token from a list of addresses.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if u, err := url.Parse(part); err == nil && u.Host != "" {
			u.User = nil
			part = u.String()
		} else if at := strings.LastIndex(part, "@"); at >= 0 {
			part = part[at+1:]
		}
		parts[i] = part
	}
	return strings.Join(parts, ",")
}

func disconnected(log *slog.Logger) nats.ConnErrHandler {
	return func(nc *nats.Conn, err error) {
		if nc.IsClosed() || err == nil {
			return // this process has closed the connection
		}
		log.Warn("connection to NATS lost, reconnecting", "error", err)
	}
}

func reconnected(log *slog.Logger) nats.ConnHandler {
	return func(nc *nats.Conn) {
		log.Info("connection to NATS is back", "server", nc.ConnectedUrlRedacted(), "times", nc.Stats().Reconnects)
	}
}

func failed(log *slog.Logger) nats.ErrHandler {
	return func(_ *nats.Conn, sub *nats.Subscription, err error) {
		if sub == nil {
			log.Error("NATS reports an error", "error", err)
			return
		}
		log.Error("NATS reports an error", "subject", sub.Subject, "error", err)
	}
}
