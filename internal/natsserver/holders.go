package natsserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Everyone, in AgentSettings.Tenants, means all tenants.
const Everyone = "*"

// Tags in tokens. Of an account: the most jobs of a host at once, and that it was revoked. Of a user, for our programs, which read
// them from the credentials: the prefix of JetStream's API, that it makes no consumers, that it removes no
// messages, the inbox prefix, and the tenant.
const (
	slotsTag   = "slots:"
	revokedTag = "revoked"
	prefixTag  = "js-prefix:"
	inboxTag   = "inbox:"
	directTag  = "consumers:none"
	keepsTag   = "removals:none"
	tenantTag  = "tenant:"
)

// TenantSettings limit what a tenant may send. A zero field keeps the present setting; for a new tenant it is the default.
type TenantSettings struct {
	MaxPayload int64 // bytes of one message, at least LeastTenantPayload; default DefaultTenantPayload
}

// AgentSettings are the grant of a host. A zero field keeps the present setting.
type AgentSettings struct {
	Tenants []string // Everyone gives it back to all
	Slots   int
}

// Tenant makes a tenant's account and credentials, or changes the settings of an existing one. It gives the path of the credentials.
func (f *AccessFolder) Tenant(name string, s TenantSettings) (string, error) {
	if err := checkTenant(name); err != nil {
		return "", err
	}
	if s.MaxPayload != 0 && s.MaxPayload < LeastTenantPayload {
		return "", fmt.Errorf("a message of tenant %s could have only %d bytes: give at least %d, so that a piece of a file and a usual job fit, or leave it out", name, s.MaxPayload, LeastTenantPayload)
	}
	return f.hold(TenantHolder, name, func(pair nkeys.KeyPair, before *jwt.AccountClaims) (*jwt.AccountClaims, error) {
		claims, err := f.outsider(fileName(TenantHolder, name), pair, tenantSubjects(name), nil)
		if err != nil {
			return nil, err
		}
		claims.Limits.Conn = tenantConnections
		claims.Limits.Payload = s.MaxPayload
		if s.MaxPayload == 0 {
			claims.Limits.Payload = DefaultTenantPayload
			if before != nil {
				claims.Limits.Payload = max(LeastTenantPayload, before.Limits.Payload)
			}
		}
		return claims, nil
	})
}

// Agent makes the account and credentials of a host's agent, or changes the settings of an existing one. It gives the path of the
// credentials.
func (f *AccessFolder) Agent(host string, s AgentSettings) (string, error) {
	if err := checkHost(host); err != nil {
		return "", err
	}
	for _, tenant := range s.Tenants {
		if tenant == Everyone && len(s.Tenants) > 1 {
			return "", errors.New("a host is given to some tenants or to all of them, not both")
		}
		if tenant != Everyone {
			if err := checkTenant(tenant); err != nil {
				return "", err
			}
		}
	}
	return f.hold(AgentHolder, host, func(pair nkeys.KeyPair, before *jwt.AccountClaims) (*jwt.AccountClaims, error) {
		s := s
		if before != nil {
			old := settingsOf(before)
			if s.Tenants == nil {
				s.Tenants = old.Tenants
			}
			if s.Slots == 0 {
				s.Slots = old.Slots
			}
		}
		tenants := slices.Compact(slices.Sorted(slices.Values(s.Tenants)))
		if slices.Equal(tenants, []string{Everyone}) {
			tenants = nil
		}
		claims, err := f.outsider(fileName(AgentHolder, host), pair, hostSubjects(host, tenants), offered(host))
		if err == nil && len(tenants) > 0 {
			claims.DefaultPermissions.Sub.Allow.Add(names.CancelledEvents) // of its tenants, since no other event comes into the account
		}
		if err == nil && s.Slots != 0 {
			claims.Tags.Add(slotsTag + strconv.Itoa(s.Slots))
		}
		return claims, err
	})
}

// Watcher makes the account and credentials with which a program may read every event and do nothing else.
func (f *AccessFolder) Watcher() (string, error) {
	return f.hold(WatcherHolder, "", func(pair nkeys.KeyPair, _ *jwt.AccountClaims) (*jwt.AccountClaims, error) {
		return f.outsider(fileName(WatcherHolder, ""), pair, watcherSubjects(), nil)
	})
}

// Dispatcher makes the credentials that all dispatchers share.
func (f *AccessFolder) Dispatcher() (string, error) {
	return f.fleetUser(DispatcherHolder, dispatcherPermissions(), inboxTag+dispatcherInbox)
}

// Operator makes the credentials with which people and programs operate the fleet.
func (f *AccessFolder) Operator() (string, error) {
	return f.fleetUser(OperatorHolder, operatorPermissions(), inboxTag+operatorInbox)
}

// Gateway makes the credentials that all gateways share.
func (f *AccessFolder) Gateway() (string, error) {
	return f.fleetUser(GatewayHolder, gatewayPermissions(), inboxTag+gatewayInbox, keepsTag)
}

// hold makes a key, an account and credentials as far as they are missing; describe sets what the account may do.
func (f *AccessFolder) hold(kind HolderKind, name string, describe func(pair nkeys.KeyPair, before *jwt.AccountClaims) (*jwt.AccountClaims, error)) (string, error) {
	file := fileName(kind, name)
	if err := f.checkNew(file); err != nil {
		return "", err
	}
	pair, err := f.keyOnce(file, nkeys.CreateAccount)
	if err != nil {
		return "", err
	}
	before, err := f.account(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	claims, err := describe(pair, before)
	if err != nil {
		return "", err
	}
	changed, err := f.putAccount(claims)
	if err != nil {
		return "", err
	}
	user := newUser()
	user.Name = file
	if kind == TenantHolder {
		user.Tags = append(user.Tags, tenantTag+name) // Tags.Add would change it to lower case
	} else {
		user.Tags = append(user.Tags, prefixTag+JetStreamPrefix, directTag)
	}
	path, made, err := f.putCreds(file, pair, user)
	if err != nil || !changed && !made {
		return path, err
	}
	return path, f.reconcile()
}

func (f *AccessFolder) checkNew(file string) error {
	known, err := f.names(keysDir, keyExt)
	if err != nil {
		return err
	}
	return checkCase(file, known)
}

// fleetUser makes credentials in the fleet's own account.
func (f *AccessFolder) fleetUser(kind HolderKind, permissions jwt.Permissions, tags ...string) (string, error) {
	pair, err := f.key(fleetAccount)
	if err != nil {
		return "", err
	}
	user := newUser()
	user.Name = string(kind)
	user.Permissions = permissions
	user.Tags = append(user.Tags, tags...)
	path, _, err := f.putCreds(string(kind), pair, user)
	return path, err
}

// Holder is a tenant, a host or a role (dispatcher, operator, watcher, gateway) that has credentials.
type Holder struct {
	Kind    HolderKind `json:"kind"`
	Name    string     `json:"name,omitempty"`    // of the tenant or the host
	Tenants []string   `json:"tenants,omitempty"` // of a host: whose jobs it runs; empty: all
	Slots   int        `json:"slots,omitempty"`   // of a host: the most jobs at once; 0: what the dispatchers allow
	Account string     `json:"account"`           // its public key
	Creds   string     `json:"creds"`
}

// File is the holder's name in files and for Revoke, as tenant-acme.
func (h Holder) File() string { return fileName(h.Kind, h.Name) }

// List gives all holders, ordered by kind and name.
func (f *AccessFolder) List() ([]Holder, error) {
	accounts, err := f.accounts()
	if err != nil {
		return nil, err
	}
	var holders []Holder
	for _, claims := range accounts {
		kind, name, ok := parseFileName(claims.Name)
		if !ok || revoked(claims) {
			continue
		}
		s := settingsOf(claims)
		holders = append(holders, Holder{
			Kind: kind, Name: name, Tenants: s.Tenants, Slots: s.Slots, Account: claims.Subject,
			Creds: f.path(credsDir, claims.Name+credsExt),
		})
	}
	fleet, err := f.account(fleetAccount)
	if err != nil {
		return nil, err
	}
	for _, kind := range []HolderKind{DispatcherHolder, OperatorHolder, GatewayHolder} {
		path := f.path(credsDir, string(kind)+credsExt)
		if _, err := os.Stat(path); err == nil {
			holders = append(holders, Holder{Kind: kind, Account: fleet.Subject, Creds: path})
		}
	}
	slices.SortFunc(holders, func(a, b Holder) int {
		return strings.Compare(string(a.Kind)+" "+a.Name, string(b.Kind)+" "+b.Name)
	})
	return holders, nil
}

// settingsOf reads a host's settings from its account: its tenants are those whose jobs it may end.
func settingsOf(claims *jwt.AccountClaims) AgentSettings {
	var s AgentSettings
	for _, one := range claims.Imports {
		tokens := strings.Split(string(one.Subject), ".")
		if len(tokens) == 6 && tokens[2] == "jobs" && tokens[5] == "completed" && tokens[3] != Everyone {
			s.Tenants = append(s.Tenants, tokens[3])
		}
	}
	for _, tag := range claims.Tags {
		if text, found := strings.CutPrefix(tag, slotsTag); found {
			s.Slots, _ = strconv.Atoi(text) // written by Agent
		}
	}
	return s
}

func revoked(claims *jwt.AccountClaims) bool { return claims.Tags.Contains(revokedTag) }
