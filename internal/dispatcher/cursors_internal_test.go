package dispatcher

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/comfyherd/comfyherd/jetstream"
)

// sealing is cursors whose secret may change, and how often it was read.
type sealing struct {
	cursors
	secret byte
	err    error
	reads  int
}

func newSealing(secret byte) *sealing {
	s := &sealing{secret: secret}
	s.read = func(context.Context, string) ([]byte, error) {
		s.reads++
		return bytes.Repeat([]byte{s.secret}, 32), s.err
	}
	return s
}

func TestACursorIsGoodForItsScopeAlone(t *testing.T) {
	t.Parallel()
	mine, other := newSealing(1), newSealing(1)
	about := scope{"get", "acme", "file"}
	for _, payload := range []string{"", "here"} {
		cursor, err := mine.close(t.Context(), about, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		got, err := other.open(t.Context(), about, cursor)
		same(t, "payload", []any{string(got), err}, []any{payload, nil})
		for _, wrong := range []scope{{"get", "acme", "fil", "e"}, {"get", "acme"}, {"put", "acme", "file"}, {"get", "bolt", "file"}} {
			_, err = other.open(t.Context(), wrong, cursor)
			if _, is := errors.AsType[*jetstream.BadRequest](err); !is {
				t.Errorf("in scope %v: %v", wrong, err)
			}
		}
	}
	for _, bad := range []string{"", "no base64!", base64.RawURLEncoding.EncodeToString(make([]byte, sealSize-1)), base64.RawURLEncoding.EncodeToString(make([]byte, 40))} {
		_, err := mine.open(t.Context(), about, bad)
		if _, is := errors.AsType[*jetstream.BadRequest](err); !is {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The secret is read once, and again when a cursor may be sealed with another one.
func TestACursorOfAnotherSecretIsOpenedWhenThatIsReadAnew(t *testing.T) {
	t.Parallel()
	old, fresh := newSealing(1), newSealing(2)
	about := scope{"get"}
	if _, err := old.close(t.Context(), about, nil); err != nil {
		t.Fatal(err)
	}
	cursor, err := fresh.close(t.Context(), about, []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	old.secret = 2
	for range 3 {
		got, err := old.open(t.Context(), about, cursor)
		same(t, "payload", []any{string(got), err}, []any{"here", nil})
	}
	same(t, "reads", old.reads, 2)
	old.secret, old.err = 3, errors.New("the bucket is away")
	later, err := newSealing(3).close(t.Context(), about, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = old.open(t.Context(), about, later); !errors.Is(err, old.err) {
		t.Errorf("%v", err)
	}
	lost := newSealing(1)
	lost.err = old.err
	if _, err = lost.close(t.Context(), about, nil); !errors.Is(err, old.err) {
		t.Errorf("%v", err)
	}
}
