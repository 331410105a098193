package natsserver_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// realm is a server with an account that serves "desk.*", and others that may ask at some of these desks.
type realm struct {
	*natsserver.Server
	t        *testing.T
	operator nkeys.KeyPair
	office   nkeys.KeyPair // the account that serves

	mu     sync.Mutex               // guards tokens
	tokens map[string]string        // of accounts
	slow   map[string]time.Duration // how long the token of an account takes to be read
}

func startRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{t: t, tokens: map[string]string{}, slow: map[string]time.Duration{}}
	var name, system, office string
	r.operator, name = r.pair(nkeys.CreateOperator)
	_, system = r.pair(nkeys.CreateAccount)
	r.put(jwt.NewAccountClaims(system))
	r.office, office = r.pair(nkeys.CreateAccount)
	serves := jwt.NewAccountClaims(office)
	serves.Exports.Add(&jwt.Export{Subject: "desk.*", Type: jwt.Service, TokenReq: true})
	r.put(serves)
	operator := jwt.NewOperatorClaims(name)
	operator.SystemAccount = system
	token, err := operator.Encode(r.operator)
	if err != nil {
		t.Fatal(err)
	}
	r.Server, err = natsserver.Start(natsserver.Config{
		Port: -1, StoreDir: t.TempDir(), Access: &natsserver.Access{Operator: token, System: system, Account: r.account},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	nc := r.connect(r.user(r.office))
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("desk.*", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	r.flush(nc)
	return r
}

func (r *realm) pair(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	r.t.Helper()
	made, err := create()
	if err != nil {
		r.t.Fatal(err)
	}
	public, err := made.PublicKey()
	if err != nil {
		r.t.Fatal(err)
	}
	return made, public
}

func (r *realm) put(claims *jwt.AccountClaims) (token string) {
	r.t.Helper()
	token, err := claims.Encode(r.operator)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[claims.Subject] = token
	return token
}

func (r *realm) account(public string) (string, error) {
	r.mu.Lock()
	token, slow := r.tokens[public], r.slow[public]
	r.mu.Unlock()
	if token == "" {
		return "", errors.New("no such account")
	}
	<-time.After(slow)
	return token, nil
}

// permit lets an account ask at some desks from now on, and do nothing else.
func (r *realm) permit(public string, desks ...string) (token string) {
	r.t.Helper()
	office, err := r.office.PublicKey()
	if err != nil {
		r.t.Fatal(err)
	}
	claims := jwt.NewAccountClaims(public)
	claims.DefaultPermissions.Sub.Allow.Add("_INBOX.>")
	for _, desk := range desks {
		permit := jwt.NewActivationClaims(public)
		permit.ImportSubject, permit.ImportType = jwt.Subject(desk), jwt.Service
		text, err := permit.Encode(r.office)
		if err != nil {
			r.t.Fatal(err)
		}
		claims.Imports.Add(&jwt.Import{Subject: jwt.Subject(desk), Account: office, Token: text, Type: jwt.Service})
		claims.DefaultPermissions.Pub.Allow.Add(desk)
	}
	return r.put(claims)
}

// user makes one of an account.
func (r *realm) user(account nkeys.KeyPair) nats.Option {
	r.t.Helper()
	key, public := r.pair(nkeys.CreateUser)
	token, err := jwt.NewUserClaims(public).Encode(account)
	if err != nil {
		r.t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		r.t.Fatal(err)
	}
	return nats.UserJWTAndSeed(token, string(seed))
}

func (r *realm) connect(user nats.Option) *nats.Conn {
	quiet := func(*nats.Conn, *nats.Subscription, error) {}
	nc, err := nats.Connect(r.URL(), user, nats.Timeout(time.Minute), nats.ErrorHandler(quiet))
	if err != nil {
		r.t.Error(err)
	}
	return nc
}

func (r *realm) flush(nc *nats.Conn) {
	if err := nc.FlushTimeout(time.Minute); err != nil {
		r.t.Error(err)
	}
}

func (r *realm) update(token string) {
	if err := r.UpdateAccount(token); err != nil {
		r.t.Error(err)
	}
}

// refused publishes what the connection must not.
func (r *realm) refused(nc *nats.Conn, subject string) {
	if err := nc.Publish(subject, nil); err != nil {
		r.t.Error(err)
	}
	r.flush(nc) // whose answer comes after the refusal
	if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
		r.t.Errorf("a publish to %s: %v, want a permission violation", subject, err)
	}
}

func (r *realm) answered(nc *nats.Conn, desks ...string) {
	for _, desk := range desks {
		if _, err := nc.Request(desk, nil, time.Minute); err != nil {
			r.t.Errorf("a request to %s: %v", desk, err)
		}
	}
}

// Connections of one account come while the server is told of it: all of them may what it may, and no more.
func TestAnAccountIsWholeForAllWhoAreTheFirstOfIt(t *testing.T) {
	t.Parallel()
	r := startRealm(t)
	for n := range 8 {
		desks := make([]string, 20) // building an account takes the longer the more it imports
		for k := range desks {
			desks[k] = fmt.Sprintf("desk.%d-%d", n, k)
		}
		key, public := r.pair(nkeys.CreateAccount)
		token := r.permit(public, desks...)
		visit := func(user nats.Option) {
			nc := r.connect(user)
			defer nc.Close()
			r.refused(nc, "elsewhere")
			r.answered(nc, desks...)
		}
		var all sync.WaitGroup
		all.Go(func() { r.update(token) })
		for range 3 {
			user := r.user(key)
			all.Go(func() { visit(user) })
		}
		all.Wait()
		visit(r.user(key))
	}
}

// Also when it is one that counted before.
func TestTheTokenThatWasToldLastCounts(t *testing.T) {
	t.Parallel()
	r := startRealm(t)
	key, public := r.pair(nkeys.CreateAccount)
	wide := r.permit(public, "desk.a", "desk.b")
	nc := r.connect(r.user(key))
	defer nc.Close()
	r.update(wide)
	r.answered(nc, "desk.a", "desk.b")
	r.update(r.permit(public, "desk.a"))
	r.answered(nc, "desk.a")
	r.refused(nc, "desk.b")
	r.update(wide)
	r.answered(nc, "desk.a", "desk.b")
}

// nats-server's own first ping would come after 2 to 2.4 s here, and end the connection.
func TestAnAccountThatLoadsSlowlyIsConnectedTo(t *testing.T) {
	t.Parallel()
	r := startRealm(t)
	key, public := r.pair(nkeys.CreateAccount)
	r.permit(public, "desk.a")
	r.mu.Lock()
	r.slow[public] = 3 * time.Second
	r.mu.Unlock()
	nc := r.connect(r.user(key))
	if nc == nil {
		return
	}
	defer nc.Close()
	r.answered(nc, "desk.a")
}
