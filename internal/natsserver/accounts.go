package natsserver

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Limits of accounts beside the fleet's.
const (
	tenantConnections = 1000
	otherConnections  = 64

	// DefaultTenantPayload is the largest message of a tenant in bytes: twice a job of 1 MiB with its headers, so that a job which is
	// somewhat too large is refused with an error and not by a closed connection.
	DefaultTenantPayload = 2 << 20

	// LeastTenantPayload is the least that a tenant's limit may be. NATS tells a client the server's limit, not the tenant's, and closes a
	// connection that exceeds the latter; so a piece of a file, 512 KiB with its headers, and a usual job must fit.
	LeastTenantPayload = 1 << 20
)

// pushTime is how long credentials of the system account are valid.
const pushTime = 5 * time.Minute

func now() int64 { return time.Now().Unix() }

func expiry() int64 { return time.Now().Add(pushTime).Unix() }

func newAccount(name string, pair nkeys.KeyPair) (*jwt.AccountClaims, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", name, err)
	}
	claims := jwt.NewAccountClaims(public)
	claims.Name = name
	claims.Limits.JetStreamTieredLimits = nil // the same value as in a decoded token, for comparisons
	return claims, nil
}

// outsider makes an account of a tenant, a host or watchers: no JetStream, no leaf nodes, and only the granted subjects.
func (f *AccessFolder) outsider(name string, pair nkeys.KeyPair, granted, serves []grant) (*jwt.AccountClaims, error) {
	claims, err := newAccount(name, pair)
	if err != nil {
		return nil, err
	}
	fleet, err := f.key(fleetAccount)
	if err != nil {
		return nil, err
	}
	claims.Limits.Conn = otherConnections
	claims.Limits.LeafNodeConn = 0
	claims.Limits.DisallowBearer = true
	claims.DefaultPermissions = permitted(granted, serves)
	claims.Exports = exports(serves)
	for _, g := range granted {
		imported, err := importOf(fleet, claims.Subject, g)
		if err != nil {
			return nil, err
		}
		claims.Imports.Add(imported)
	}
	return claims, nil
}

func exports(grants []grant) jwt.Exports {
	var all jwt.Exports
	for _, g := range grants {
		e := &jwt.Export{Name: g.subject, Subject: jwt.Subject(g.subject), Type: g.kind(), TokenReq: true}
		if !g.stream {
			e.ResponseType = jwt.ResponseTypeSingleton
			if g.answers {
				e.ResponseType = jwt.ResponseTypeStream
			}
		}
		all.Add(e)
	}
	return all
}

// importOf makes an import that lets one account use a subject of the exporting account.
func importOf(exporter nkeys.KeyPair, importer string, g grant) (*jwt.Import, error) {
	from, err := exporter.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the key of an account: %w", err)
	}
	token := jwt.NewActivationClaims(importer)
	token.Name = g.subject
	token.ImportSubject = jwt.Subject(g.subject)
	token.ImportType = g.kind()
	text, err := token.Encode(exporter)
	if err != nil {
		return nil, fmt.Errorf("permit %s: %w", g.subject, err)
	}
	return &jwt.Import{
		Name: g.subject, Subject: jwt.Subject(g.subject), Account: from, Token: text, Type: g.kind(),
		LocalSubject: jwt.RenamingSubject(local(g)),
	}, nil
}

// local is the subject of an import in the importing account, with $1 for the first wildcard; empty when it is the same.
func local(g grant) string {
	if g.local == "" {
		return ""
	}
	n := 0
	tokens := strings.Split(g.local, ".")
	for i, token := range tokens {
		if token == "*" {
			n++
			tokens[i] = fmt.Sprintf("$%d", n)
		}
	}
	return strings.Join(tokens, ".")
}

// reconcile makes the fleet's account and nats-server.conf agree with the accounts in the folder. It is called after every change; of
// several processes at once, the last one to read the folder sees all changes.
func (f *AccessFolder) reconcile() error {
	for !f.batch {
		before, err := f.accountsAndRevoked()
		if err != nil {
			return err
		}
		if err := f.putFleet(); err != nil {
			return err
		}
		if err := f.putConf(); err != nil {
			return err
		}
		after, err := f.accountsAndRevoked()
		if err != nil {
			return err
		}
		if slices.Equal(before, after) {
			return f.newRevision()
		}
	}
	return nil
}

// accountsAndRevoked is what the fleet's account depends on: the names of the accounts that are not revoked, and the revoked users.
func (f *AccessFolder) accountsAndRevoked() ([]string, error) {
	accounts, err := f.accounts()
	if err != nil {
		return nil, err
	}
	all, err := f.names(revokedDir, userExt)
	if err != nil {
		return nil, err
	}
	for _, claims := range accounts {
		if claims.Name != fleetAccount && !revoked(claims) {
			all = append(all, claims.Name)
		}
	}
	slices.Sort(all)
	return all, nil
}

// putFleet makes the fleet's account: it has JetStream, exports the subjects that others may be granted, and imports those of every
// host.
func (f *AccessFolder) putFleet() error {
	pair, err := f.key(fleetAccount)
	if err != nil {
		return err
	}
	claims, err := newAccount(fleetAccount, pair)
	if err != nil {
		return err
	}
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	claims.Exports = exports(exported)
	if claims.Revocations, err = f.revokedUsers(); err != nil {
		return err
	}
	accounts, err := f.accounts()
	if err != nil {
		return err
	}
	signed := signedImports(accounts)
	for _, account := range accounts {
		if err := f.reach(claims, account, signed); err != nil {
			return err
		}
	}
	_, err = f.putAccount(claims)
	return err
}

// importKey is a subject that an account exports.
type importKey struct {
	account string
	subject jwt.Subject
}

// signedImports are the imports of the fleet's present account. Their tokens are used again, so they need not be signed again.
func signedImports(accounts []*jwt.AccountClaims) map[importKey]*jwt.Import {
	imports := map[importKey]*jwt.Import{}
	for _, account := range accounts {
		if account.Name != fleetAccount {
			continue
		}
		for _, one := range account.Imports {
			imports[importKey{one.Account, one.Subject}] = one
		}
	}
	return imports
}

// reach lets the fleet send offers to a host.
func (f *AccessFolder) reach(fleet, account *jwt.AccountClaims, signed map[importKey]*jwt.Import) error {
	kind, host, _ := parseFileName(account.Name)
	if kind != AgentHolder || revoked(account) {
		return nil
	}
	offers := offered(host)
	var found []*jwt.Import
	for _, g := range offers {
		if one := signed[importKey{account.Subject, jwt.Subject(g.subject)}]; one != nil {
			found = append(found, one)
		}
	}
	if len(found) == len(offers) {
		fleet.Imports.Add(found...)
		return nil
	}
	pair, err := f.key(account.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // revoked meanwhile
	}
	if err != nil {
		return err
	}
	for _, g := range offers {
		imported, err := importOf(pair, fleet.Subject, g)
		if err != nil {
			return err
		}
		fleet.Imports.Add(imported)
	}
	return nil
}

// accounts reads the tokens of all accounts, by name.
func (f *AccessFolder) accounts() ([]*jwt.AccountClaims, error) {
	keys, err := f.names(accountsDir, tokenExt)
	if err != nil {
		return nil, err
	}
	var all []*jwt.AccountClaims
	for _, public := range keys {
		text, err := f.Account(public)
		if err != nil {
			return nil, err
		}
		claims, err := jwt.DecodeAccountClaims(text)
		if err != nil {
			return nil, fmt.Errorf("read the account in %s: %w", f.path(accountsDir, public+tokenExt), err)
		}
		all = append(all, claims)
	}
	slices.SortFunc(all, func(a, b *jwt.AccountClaims) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// same reports whether two tokens of an account are equal but for the times at which they were signed.
func same(a, b *jwt.AccountClaims) bool {
	return a.Name == b.Name && reflect.DeepEqual(granted(a), granted(b)) && reflect.DeepEqual(a.Tags, b.Tags) &&
		reflect.DeepEqual(a.Limits, b.Limits) && reflect.DeepEqual(a.DefaultPermissions, b.DefaultPermissions) &&
		reflect.DeepEqual(exporting(a), exporting(b)) && reflect.DeepEqual(a.Revocations, b.Revocations)
}

// granted are an account's imports without their tokens, in order.
func granted(claims *jwt.AccountClaims) []jwt.Import {
	var all []jwt.Import
	for _, one := range claims.Imports {
		bare := *one
		bare.Token = ""
		all = append(all, bare)
	}
	slices.SortFunc(all, func(a, b jwt.Import) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// exporting are an account's exports, in order.
func exporting(claims *jwt.AccountClaims) []jwt.Export {
	var all []jwt.Export
	for _, one := range claims.Exports {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b jwt.Export) int { return strings.Compare(a.Name, b.Name) })
	return all
}
