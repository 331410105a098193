package natsserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// lockName is the file whose lock marks a store directory as in use. The file stays when
// the server ends; the operating system releases the lock with the process.
const lockName = "comfyherd.lock"

// errLocked is what lockFile returns when another open file holds the lock.
var errLocked = errors.New("locked")

// dirLock holds a store directory for one server.
type dirLock struct {
	once sync.Once
	file *os.File
	err  error // set inside once
}

// lockDir makes the directory when missing, proves that it can be written, and takes it.
func lockDir(dir string) (*dirLock, error) {
	if dir == "" {
		return nil, errors.New("start NATS: no store directory given; JetStream needs one to keep jobs in")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store directory %s: %w: choose another directory", dir, err)
	}
	file, err := lockFile(filepath.Join(dir, lockName))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("open %s: %w by another embedded NATS: stop that one, connect to it with NATS_URL, "+
			"or choose another directory", dir, ErrStoreInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("write to the store directory %s: %w: choose another directory or correct its permissions", dir, err)
	}
	return &dirLock{file: file}, nil
}

func (l *dirLock) release() error {
	l.once.Do(func() { l.err = l.file.Close() })
	return l.err
}
