package natsserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// putConf writes the file that the configuration of an operator's own nats-server includes.
func (f *AccessFolder) putConf() error {
	access, err := f.Access()
	if err != nil {
		return err
	}
	accounts, err := f.accounts()
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Who may use the fleet. Written by `dispatcher access`; changes by hand are lost.\n"+
		"# A running server hears of changes by `dispatcher access push`.\n"+
		"operator: %s\nsystem_account: %s\n"+
		"resolver { type: full, dir: \"./accounts\", allow_delete: false, interval: \"2m\" }\nresolver_preload {\n", access.Operator, access.System)
	for _, claims := range accounts {
		token, err := f.Account(claims.Subject)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "  # %s\n  %s: %s\n", claims.Name, claims.Subject, token)
	}
	text.WriteString("}\n")
	return write(f.path(confFile), []byte(text.String()))
}

// Tracker follows the changes of a folder for a running server.
type Tracker struct {
	folder   *AccessFolder
	revision string
	known    map[string]string // tokens by public key
	again    time.Time         // when to read the folder again after an error, although its revision is the same; zero: no error
}

// Track reads the folder's present state. Call it before the server is started, so that no change in between is missed.
func (f *AccessFolder) Track() (*Tracker, error) {
	t := &Tracker{folder: f, known: map[string]string{}}
	_, err := t.changes()
	return t, err
}

const (
	lookEvery  = 200 * time.Millisecond // between two checks of the revision
	retryPause = 5 * time.Second        // after an error
)

// Run calls tell with the token of every account that is new or has changed, until ctx ends. When a token cannot be read, or tell
// returns an error, failed is called with the error, and the account is tried again after 5 s; other accounts are not delayed.
func (t *Tracker) Run(ctx context.Context, tell func(token string) error, failed func(error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		changed, err := t.changes()
		for _, one := range changed {
			if bad := tell(one.token); bad != nil {
				delete(t.known, one.key)
				err = errors.Join(err, bad)
			}
		}
		if err != nil {
			t.again = time.Now().Add(retryPause)
			failed(err)
		}
	}
}

// changes reads the folder when its revision has changed. The fleet's account comes last, since it refers to others.
func (t *Tracker) changes() ([]signed, error) {
	due := !t.again.IsZero() && time.Now().After(t.again)
	text, err := os.ReadFile(t.folder.path(revisionFile))
	if err != nil && !t.again.IsZero() && !due {
		return nil, nil // no change since the last call
	}
	if err != nil {
		return nil, fmt.Errorf("look at the access folder: %w", err)
	}
	if string(text) == t.revision && !due {
		return nil, nil
	}
	accounts, err := t.folder.inOrder()
	if err != nil {
		return nil, err
	}
	var changed []signed
	for _, one := range accounts {
		if t.known[one.key] != one.token {
			t.known[one.key] = one.token
			changed = append(changed, one)
		}
	}
	t.revision, t.again = string(text), time.Time{}
	return changed, nil
}

type signed struct{ key, name, token string }

// inOrder are the tokens of all accounts, the fleet's last.
func (f *AccessFolder) inOrder() ([]signed, error) {
	accounts, err := f.accounts()
	if err != nil {
		return nil, err
	}
	var all, last []signed
	for _, claims := range accounts {
		token, err := f.Account(claims.Subject)
		if err != nil {
			return nil, err
		}
		one := signed{claims.Subject, claims.Name, token}
		if claims.Name == fleetAccount {
			last = append(last, one)
		} else {
			all = append(all, one)
		}
	}
	return append(all, last...), nil
}

// pushTimeout bounds the answer about one account.
const pushTimeout = 10 * time.Second

// Push sends all accounts to a running nats-server, over a connection with the credentials that System gives, and returns how many the
// server has accepted.
func (f *AccessFolder) Push(ctx context.Context, nc *nats.Conn) (int, error) {
	accounts, err := f.inOrder()
	if err != nil {
		return 0, err
	}
	for i, one := range accounts {
		if err := push(ctx, nc, one.token); err != nil {
			return i, fmt.Errorf("push the account %s: %w", one.name, err)
		}
	}
	return len(accounts), nil
}

func push(ctx context.Context, nc *nats.Conn, token string) error {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(token))
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("this nats-server accepts no accounts: include the folder's nats-server.conf in its configuration and restart it: %w", err)
	}
	if err != nil {
		return err
	}
	var answer struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
		Data struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"data"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case answer.Error != nil:
		return fmt.Errorf("nats-server refuses it: %s", answer.Error.Description)
	case answer.Data.Code != 200:
		return fmt.Errorf("nats-server refuses it: %d %s", answer.Data.Code, answer.Data.Message)
	}
	return nil
}
