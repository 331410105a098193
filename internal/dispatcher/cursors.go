package dispatcher

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"strings"
	"sync/atomic"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// cursors seal what a caller keeps for the dispatchers between two calls: any dispatcher can go on with it, and callers
// cannot make or change one. A cursor is good for its scope alone: a kind of call, a tenant, a file.
type cursors struct {
	read   func(context.Context, string) ([]byte, error) // a secret of the fleet
	secret atomic.Pointer[[]byte]
}

const sealSize = 16

// key gives the fleet's secret: the one that is known here, or a fresh one.
func (c *cursors) key(ctx context.Context, fresh bool) ([]byte, error) {
	if known := c.secret.Load(); known != nil && !fresh {
		return *known, nil
	}
	secret, err := c.read(ctx, queue.FilesSecret)
	if err != nil {
		return nil, err
	}
	c.secret.Store(&secret)
	return secret, nil
}

// scope is what a cursor is good for; its first word is the kind.
type scope []string

// sum is a keyed hash that nothing of another scope can have.
func (s scope) sum(key []byte) hash.Hash {
	mac := hmac.New(sha256.New, key)
	for _, word := range s {
		mac.Write(binary.AppendUvarint(nil, uint64(len(word))))
		mac.Write([]byte(word))
	}
	return mac
}

func (s scope) seal(key, payload []byte) []byte {
	mac := s.sum(key)
	mac.Write(payload)
	return mac.Sum(nil)[:sealSize]
}

// name gives a name that cannot be guessed without the key, in letters and digits that subjects take.
func (s scope) name(key []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s.sum(key).Sum(nil)[:sealSize]))
}

// close makes a cursor.
func (c *cursors) close(ctx context.Context, s scope, payload []byte) (string, error) {
	key, err := c.key(ctx, false)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(s.seal(key, payload), payload...)), nil
}

// open gives the payload that close was given. The secret may have been made anew since it was read here.
func (c *cursors) open(ctx context.Context, s scope, cursor string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	for _, fresh := range []bool{false, true} {
		if err != nil || len(sealed) < sealSize {
			break
		}
		key, err := c.key(ctx, fresh)
		if err != nil {
			return nil, err
		}
		if hmac.Equal(sealed[:sealSize], s.seal(key, sealed[sealSize:])) {
			return sealed[sealSize:], nil
		}
	}
	return nil, &jetstream.BadRequest{Message: "the cursor was not made for this file: send the cursor of the previous answer unchanged"}
}
