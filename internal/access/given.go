package access

import (
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
)

// Given is the grant of a host: the tenants whose jobs it runs, and how many at once.
type Given struct {
	Host    string
	Tenants []string  // empty: all tenants
	Slots   int       // the most jobs at once; 0: what the dispatchers allow
	Since   time.Time // when it was set
}

// Given gives the grants of all hosts that have credentials.
func (f *Folder) Given() ([]Given, error) {
	accounts, err := f.accounts()
	if err != nil {
		return nil, err
	}
	var all []Given
	for _, claims := range accounts {
		if given, ok := givenIn(claims); ok {
			all = append(all, given)
		}
	}
	return all, nil
}

// GivenIn reads the grant from an account's token; false when the account is not a host's, or was revoked.
func GivenIn(token string) (Given, bool, error) {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return Given{}, false, fmt.Errorf("read an account: %w", err)
	}
	given, ok := givenIn(claims)
	return given, ok, nil
}

func givenIn(claims *jwt.AccountClaims) (Given, bool) {
	kind, host, ok := parseFileName(claims.Name)
	if !ok || kind != Agent || revoked(claims) {
		return Given{}, false
	}
	s := settingsOf(claims)
	return Given{Host: host, Tenants: s.Tenants, Slots: s.Slots, Since: time.Unix(claims.IssuedAt, 0).UTC()}, true
}
