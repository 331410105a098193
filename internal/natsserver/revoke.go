package natsserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/jwt/v2"
)

// ErrNobody: there is no holder of this name. List gives their names.
var ErrNobody = errors.New("no such credentials")

// Revoke revokes the credentials of a holder, named as Holder.File does, such as tenant-acme: its connections are closed and new ones
// refused. A server that runs with the folder does so at once, another one after Push. New credentials may be made for the name.
func (f *AccessFolder) Revoke(name string) error {
	kind, _, ok := parseFileName(name)
	if !ok || strings.ContainsAny(name, `/\.`) {
		return fmt.Errorf("revoke %s: %w; see `dispatcher access list %s`", name, ErrNobody, f.dir)
	}
	var err error
	if kind == DispatcherHolder || kind == OperatorHolder || kind == GatewayHolder {
		err = f.revokeUser(name)
	} else {
		err = f.revokeAccount(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("revoke %s: %w; see `dispatcher access list %s`", name, ErrNobody, f.dir)
	}
	if err != nil {
		return err
	}
	return f.reconcile()
}

// revokeAccount replaces the account by one without any rights, which servers can load. It is written before the key is removed, so a
// revocation that was interrupted can be repeated.
func (f *AccessFolder) revokeAccount(file string) error {
	pair, err := f.key(file)
	if err != nil {
		return err
	}
	claims, err := newAccount(file, pair)
	if err != nil {
		return err
	}
	claims.Tags.Add(revokedTag)
	claims.Limits.Conn, claims.Limits.LeafNodeConn = 0, 0
	claims.Revoke(jwt.All)
	if _, err := f.putAccount(claims); err != nil {
		return err
	}
	return errors.Join(gone(f.path(credsDir, file+credsExt)), gone(f.path(keysDir, file+keyExt)))
}

func (f *AccessFolder) revokeUser(file string) error {
	path := f.path(credsDir, file+credsExt)
	body, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	token, err := jwt.ParseDecoratedJWT(body)
	if err != nil {
		return fmt.Errorf("read the credentials %s: %w", path, err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return fmt.Errorf("read the credentials %s: %w", path, err)
	}
	note := strconv.FormatInt(now(), 10) + " " + file + "\n"
	if err := write(f.path(revokedDir, user.Subject+userExt), []byte(note)); err != nil {
		return err
	}
	return gone(path)
}

// revokedUsers are the revoked users of the fleet's account, each with the time.
func (f *AccessFolder) revokedUsers() (jwt.RevocationList, error) {
	keys, err := f.names(revokedDir, userExt)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	list := jwt.RevocationList{}
	for _, key := range keys {
		note, err := os.ReadFile(f.path(revokedDir, key+userExt))
		if err != nil {
			return nil, fmt.Errorf("read a revocation: %w", err)
		}
		text, _, _ := strings.Cut(string(note), " ")
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the revocation in %s: %w", f.path(revokedDir, key+userExt), err)
		}
		list[key] = at
	}
	return list, nil
}

// gone removes a file, which need not exist.
func gone(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
