package natsserver

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	loadWait = 5 * time.Second      // the longest wait for an account that another connection loads
	loadLook = 5 * time.Millisecond // between two checks whether it is loaded
)

// resolver gives nats-server the tokens of accounts.
//
// nats-server loads an account when it is first needed, on the goroutine of the connection that needs it. Of two that need
// it at the same moment it gives the second one the account as far as the first has built it: without permissions, which
// that connection then never gets, and with imports that may lack their subscriptions for ever. So the first one gets the
// token at once, and the others get it when the account is loaded.
type resolver struct {
	access   *Access
	operator *jwt.OperatorClaims
	server   atomic.Pointer[server.Server] // nil until the server starts, before which no client connects

	mu    sync.Mutex           // guards begun
	begun map[string]time.Time // accounts that are being loaded, each with the time at which that began
}

// Fetch gives the token of an account that is to be loaded.
func (r *resolver) Fetch(public string) (string, error) {
	token, err := r.access.Account(public)
	s := r.server.Load()
	if err != nil || s == nil {
		return token, err
	}
	claims, good := r.read(token)
	if !good || r.first(s, public) || r.within(s, claims) {
		return token, nil
	}
	late := time.NewTimer(loadWait)
	defer late.Stop()
	tick := time.NewTicker(loadLook)
	defer tick.Stop()
	for loadedAccount(s, public) == nil {
		select {
		case <-tick.C:
		case <-late.C:
			return token, nil
		}
	}
	return r.access.Account(public) // it may have changed
}

// read decodes a token and reports whether nats-server will accept it: no connection must wait for an account that it refuses.
func (r *resolver) read(token string) (claims *jwt.AccountClaims, good bool) {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil || !r.operator.DidSign(claims) {
		return nil, false
	}
	found := jwt.CreateValidationResults()
	claims.Validate(found)
	return claims, !found.IsBlocking(true)
}

// first reports whether no other connection is loading the account.
func (r *resolver) first(s *server.Server, public string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if loadedAccount(s, public) != nil {
		delete(r.begun, public)
		return true
	}
	if begun, some := r.begun[public]; some && time.Since(begun) < loadWait {
		return false
	}
	r.begun[public] = time.Now()
	return true
}

// within reports whether one of the accounts that this one imports from is being loaded. Accounts may import from each
// other, so it may be loaded for that one's sake, on a goroutine that must not wait for itself.
func (r *resolver) within(s *server.Server, claims *jwt.AccountClaims) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range claims.Imports {
		if _, begun := r.begun[one.Account]; begun && loadedAccount(s, one.Account) == nil {
			return true
		}
	}
	return false
}

// loadedAccount is the account that the server has loaded; nil when it is not loaded completely.
func loadedAccount(s *server.Server, public string) *server.AccountInfo {
	answer, err := s.Accountz(&server.AccountzOptions{Account: public})
	if err != nil || answer.Account == nil || answer.Account.Jwt == "" {
		return nil
	}
	return answer.Account
}

func (r *resolver) Start(s *server.Server) error {
	r.server.Store(s)
	return nil
}

func (*resolver) Store(string, string) error { return errors.ErrUnsupported }
func (*resolver) IsReadOnly() bool           { return true }
func (*resolver) IsTrackingUpdate() bool     { return false }
func (*resolver) Reload() error              { return nil }
func (*resolver) Close()                     {}
