package embedded

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// Access says who may use the server: accounts that an operator has signed, in nats-server's operator mode.
type Access struct {
	Operator string // the operator's token
	System   string // the public key of the system account
	// Account gives the token of an account by its public key. It is asked when somebody of an account connects that the
	// server does not know yet, from any goroutine.
	Account func(public string) (string, error)
}

// guard sets who may connect, and how.
func guard(opts *server.Options, cfg Config) error {
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return errors.New("start NATS: a TLS certificate needs its key and a key its certificate; give both files")
	}
	if cfg.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("start NATS: read the TLS certificate %s and its key: %w", cfg.TLSCert, err)
		}
		opts.TLS = true
		opts.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	if cfg.Access == nil {
		opts.Authorization = cfg.Token
		return nil
	}
	operator, err := jwt.DecodeOperatorClaims(cfg.Access.Operator)
	if err != nil {
		return fmt.Errorf("start NATS: read the operator's token: %w", err)
	}
	opts.TrustedOperators = []*jwt.OperatorClaims{operator}
	opts.SystemAccount = cfg.Access.System
	opts.AccountResolver = resolver{cfg.Access}
	return nil
}

// resolver gives nats-server the tokens of accounts.
type resolver struct{ access *Access }

func (r resolver) Fetch(public string) (string, error) { return r.access.Account(public) }
func (resolver) Store(string, string) error            { return errors.ErrUnsupported }
func (resolver) IsReadOnly() bool                      { return true }
func (resolver) Start(*server.Server) error            { return nil }
func (resolver) IsTrackingUpdate() bool                { return false }
func (resolver) Reload() error                         { return nil }
func (resolver) Close()                                {}

// UpdateAccount makes a new token of an account count at once: what it no longer grants is taken from connections that
// stand, and connections of revoked users are closed. A token that the operator has not signed is refused.
func (s *Server) UpdateAccount(token string) error {
	if s.access == nil {
		return errors.New("update an account: this server has none")
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return fmt.Errorf("update an account: %w", err)
	}
	operator, err := jwt.DecodeOperatorClaims(s.access.Operator)
	if err != nil {
		return fmt.Errorf("update an account: %w", err)
	}
	if !operator.DidSign(claims) {
		return fmt.Errorf("update the account %s: the operator has not signed it", claims.Name)
	}
	account, err := s.nats.LookupAccount(claims.Subject)
	if err != nil {
		return fmt.Errorf("update the account %s: %w", claims.Name, err)
	}
	s.nats.UpdateAccountClaims(account, claims)
	return nil
}
