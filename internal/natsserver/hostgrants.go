package natsserver

import (
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
)

// HostGrant is the grant of a host: the tenants whose jobs it runs, and how many at once.
type HostGrant struct {
	Host    string
	Tenants []string  // empty: all tenants
	Slots   int       // the most jobs at once; 0: what the dispatchers allow
	Since   time.Time // when it was set
}

// HostGrants gives the grants of all hosts that have credentials.
func (f *AccessFolder) HostGrants() ([]HostGrant, error) {
	accounts, err := f.accounts()
	if err != nil {
		return nil, err
	}
	var all []HostGrant
	for _, claims := range accounts {
		if given, ok := hostGrantIn(claims); ok {
			all = append(all, given)
		}
	}
	return all, nil
}

// HostGrantIn reads the grant from an account's token; false when the account is not a host's, or was revoked.
func HostGrantIn(token string) (HostGrant, bool, error) {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return HostGrant{}, false, fmt.Errorf("read an account: %w", err)
	}
	given, ok := hostGrantIn(claims)
	return given, ok, nil
}

func hostGrantIn(claims *jwt.AccountClaims) (HostGrant, bool) {
	kind, host, ok := parseFileName(claims.Name)
	if !ok || kind != AgentHolder || revoked(claims) {
		return HostGrant{}, false
	}
	s := settingsOf(claims)
	return HostGrant{Host: host, Tenants: s.Tenants, Slots: s.Slots, Since: time.Unix(claims.IssuedAt, 0).UTC()}, true
}
