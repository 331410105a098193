package natsserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// key reads a private key.
func (f *AccessFolder) key(name string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(f.path(keysDir, name+keyExt))
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", name, err)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, fmt.Errorf("read the key of %s in %s: %w", name, f.path(keysDir, name+keyExt), err)
	}
	return pair, nil
}

// keyOnce reads a private key, and makes it when there is none. Processes that do so at the same time all get the same key.
func (f *AccessFolder) keyOnce(name string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	pair, err := f.key(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	pair, err = create()
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", name, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", name, err)
	}
	if _, err := writeOnce(f.path(keysDir, name+keyExt), append(seed, '\n')); err != nil {
		return nil, err
	}
	return f.key(name)
}

// account reads an account's token by the name of its key.
func (f *AccessFolder) account(name string) (*jwt.AccountClaims, error) {
	pair, err := f.key(name)
	if err != nil {
		return nil, err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", name, err)
	}
	text, err := f.Account(public)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.DecodeAccountClaims(text)
	if err != nil {
		return nil, fmt.Errorf("read the account %s in %s: %w", name, f.path(accountsDir), err)
	}
	return claims, nil
}

// putAccount signs an account's token with the operator's key and stores it, unless the stored token is equal.
func (f *AccessFolder) putAccount(claims *jwt.AccountClaims) (changed bool, err error) {
	var problems jwt.ValidationResults
	claims.Validate(&problems)
	if problems.IsBlocking(true) {
		return false, fmt.Errorf("the account %s would not be valid: %w", claims.Name, errors.Join(problems.Errors()...))
	}
	file := f.path(accountsDir, claims.Subject+tokenExt)
	if old, err := os.ReadFile(file); err == nil {
		if before, err := jwt.DecodeAccountClaims(string(old)); err == nil && same(before, claims) {
			return false, nil
		}
	}
	signer, err := f.key(rootKey)
	if err != nil {
		return false, err
	}
	text, err := claims.Encode(signer)
	if err != nil {
		return false, fmt.Errorf("sign the account %s: %w", claims.Name, err)
	}
	return true, write(file, []byte(text))
}

// putCreds writes a user's credentials unless they exist, and gives their path.
func (f *AccessFolder) putCreds(name string, account nkeys.KeyPair, user *jwt.UserClaims) (path string, made bool, err error) {
	path = f.path(credsDir, name+credsExt)
	if _, err := os.Stat(path); err == nil {
		return path, false, nil
	}
	body, err := credentials(account, user)
	if err != nil {
		return "", false, fmt.Errorf("make credentials for %s: %w", name, err)
	}
	made, err = writeOnce(path, body)
	return path, made, err
}

// credentials makes a key for a user of an account and signs its token.
func credentials(account nkeys.KeyPair, user *jwt.UserClaims) ([]byte, error) {
	token, seed, err := userOf(account, user)
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}

func userOf(account nkeys.KeyPair, user *jwt.UserClaims) (token string, seed []byte, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", nil, err
	}
	if user.Subject, err = pair.PublicKey(); err != nil {
		return "", nil, err
	}
	if token, err = user.Encode(account); err != nil {
		return "", nil, err
	}
	seed, err = pair.Seed()
	return token, seed, err
}

// newUser is a user without a key; credentials gives it one.
func newUser() *jwt.UserClaims { return jwt.NewUserClaims("without a key") }
