package natsserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files and folders in the access folder.
const (
	operatorFile = "operator.jwt"
	revisionFile = "revision"
	confFile     = "nats-server.conf"
	keysDir      = "keys"
	accountsDir  = "accounts"
	credsDir     = "creds"
	revokedDir   = "revoked"

	keyExt   = ".nk"
	tokenExt = ".jwt"
	credsExt = ".creds"
	userExt  = ".user"
)

func (f *AccessFolder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

// makeFolders makes the folders that are missing, and makes all of them unreadable for others.
func (f *AccessFolder) makeFolders() error {
	for _, dir := range []string{"", keysDir, accountsDir, credsDir, revokedDir} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return fmt.Errorf("make the access folder: %w", err)
		}
		if err := os.Chmod(f.path(dir), 0o700); err != nil {
			return fmt.Errorf("close the access folder to others: %w", err)
		}
	}
	return nil
}

// write replaces a file in one step: a reader sees the old text or the new one, also after a crash.
func write(name string, body []byte) error {
	temp, err := writeTemp(name, body)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(temp)))
	}
	return nil
}

// writeOnce writes a file that must not be there yet, whole or not at all; false means that it is.
func writeOnce(name string, body []byte) (bool, error) {
	temp, err := writeTemp(name, body)
	if err != nil {
		return false, err
	}
	err = os.Link(temp, name)
	gone := os.Remove(temp)
	if errors.Is(err, fs.ErrExist) {
		return false, gone
	}
	if err := errors.Join(err, gone); err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

func writeTemp(name string, body []byte) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(name), ".new-*") // 0600
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(file.Name())))
	}
	return file.Name(), nil
}

// names lists the files with an extension in a place of the folder, without it, in order.
func (f *AccessFolder) names(place, ext string) ([]string, error) {
	entries, err := os.ReadDir(f.path(place))
	if err != nil {
		return nil, fmt.Errorf("list the access folder: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if name, found := strings.CutSuffix(entry.Name(), ext); found && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// newRevision changes the revision, by which servers that run with the folder notice a change.
func (f *AccessFolder) newRevision() error {
	return write(f.path(revisionFile), []byte(rand.Text()+"\n"))
}
