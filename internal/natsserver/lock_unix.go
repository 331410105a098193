//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package natsserver

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens the file and takes flock's exclusive lock on it, which belongs to the
// open file, so that a second server in the same process is refused too.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	return nil, errors.Join(err, file.Close())
}
