package natsserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// Access lets only accounts that an operator has signed use the server (nats-server's operator mode), as AccessFolder.Access gives it.
type Access struct {
	Operator string // the operator's token
	System   string // the public key of the system account
	// Account gives the token of an account by its public key. It is called, from any goroutine, when a user of an account connects
	// that the server has not loaded yet.
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
	opts.AccountResolver = &resolver{access: cfg.Access, operator: operator, begun: map[string]time.Time{}}
	return nil
}

// UpdateAccount puts a new token of an account into force at once: open connections lose the rights that it no longer grants, and
// connections of revoked users are closed. A token that the operator has not signed is refused.
func (s *Server) UpdateAccount(token string) error {
	if s.access == nil {
		return errors.New("update an account: this server was started without Config.Access, so it has no accounts")
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
	return s.apply(claims, token)
}

// apply does nothing when nats-server has loaded the account with the same token: applying a token takes the rights of the account's
// connections away for a moment.
func (s *Server) apply(claims *jwt.AccountClaims, token string) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	account, err := s.nats.LookupAccount(claims.Subject)
	if err != nil {
		return fmt.Errorf("update the account %s: %w", claims.Name, err)
	}
	loaded, told := loadedAccount(s.nats, claims.Subject), s.applied[claims.Subject]
	if loaded != nil && loaded.Complete && loaded.Jwt == token && (told == "" || told == token) {
		return nil
	}
	s.nats.UpdateAccountClaims(account, claims)
	s.applied[claims.Subject] = token
	return nil
}
