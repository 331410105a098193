package natsserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// ErrNoAccessFolder: the directory is not an access folder. InitAccess makes one.
var ErrNoAccessFolder = errors.New("no access folder")

// AccessFolder is an access folder. Its methods may be called from any goroutine, and from several processes at once.
type AccessFolder struct {
	dir   string
	batch bool // within Batch, which calls reconcile once at its end
}

// InitAccess makes a folder with the keys of the operator and of the system's and the fleet's account, or completes one that
// was begun.
func InitAccess(dir string) (*AccessFolder, error) {
	f := &AccessFolder{dir: dir}
	if err := f.makeFolders(); err != nil {
		return nil, err
	}
	operator, err := f.keyOnce(rootKey, nkeys.CreateOperator)
	if err != nil {
		return nil, err
	}
	system, err := f.keyOnce(systemAccount, nkeys.CreateAccount)
	if err != nil {
		return nil, err
	}
	if _, err := f.keyOnce(fleetAccount, nkeys.CreateAccount); err != nil {
		return nil, err
	}
	if err := f.putOperator(operator, system); err != nil {
		return nil, err
	}
	if err := f.putSystem(system); err != nil {
		return nil, err
	}
	return f, f.reconcile()
}

// OpenAccess opens a folder that InitAccess has made; ErrNoAccessFolder when there is none.
func OpenAccess(dir string) (*AccessFolder, error) {
	_, err := os.Stat(dir + string(os.PathSeparator) + operatorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: make one with `dispatcher access init %s`", dir, ErrNoAccessFolder, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the access folder: %w", err)
	}
	return &AccessFolder{dir: dir}, nil
}

func (f *AccessFolder) putOperator(operator, system nkeys.KeyPair) error {
	public, err := operator.PublicKey()
	if err != nil {
		return fmt.Errorf("read the operator's key: %w", err)
	}
	claims := jwt.NewOperatorClaims(public)
	claims.Name = "comfyherd"
	if claims.SystemAccount, err = system.PublicKey(); err != nil {
		return fmt.Errorf("read the system account's key: %w", err)
	}
	text, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sign the operator's token: %w", err)
	}
	_, err = writeOnce(f.path(operatorFile), []byte(text))
	return err
}

// putSystem makes the system account, in which a nats-server publishes its own state and receives new accounts.
func (f *AccessFolder) putSystem(system nkeys.KeyPair) error {
	claims, err := newAccount(systemAccount, system)
	if err != nil {
		return err
	}
	claims.Exports = jwt.Exports{
		{Name: "account-monitoring", Subject: "$SYS.ACCOUNT.*.>", Type: jwt.Stream, AccountTokenPosition: 3},
		{
			Name: "account-monitoring-services", Subject: "$SYS.REQ.ACCOUNT.*.*", Type: jwt.Service,
			ResponseType: jwt.ResponseTypeStream, AccountTokenPosition: 4,
		},
	}
	_, err = f.putAccount(claims)
	return err
}

// Dir is the path of the folder.
func (f *AccessFolder) Dir() string { return f.dir }

// Batch calls do, which may make or change many accounts through the AccessFolder that it gets. The fleet's account and nats-server.conf
// depend on all accounts, so they are written once at the end; only then do running servers get the changes.
func (f *AccessFolder) Batch(do func(*AccessFolder) error) error {
	err := do(&AccessFolder{dir: f.dir, batch: true})
	return errors.Join(err, f.reconcile()) // also what was made before an error
}

// Access gives what a nats-server is configured with to accept the credentials of the folder.
func (f *AccessFolder) Access() (*Access, error) {
	text, err := os.ReadFile(f.path(operatorFile))
	if err != nil {
		return nil, fmt.Errorf("read the operator's token: %w", err)
	}
	claims, err := jwt.DecodeOperatorClaims(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the operator's token in %s: %w", f.path(operatorFile), err)
	}
	return &Access{Operator: string(text), System: claims.SystemAccount, Account: f.Account}, nil
}

// Account gives the token of an account by its public key.
func (f *AccessFolder) Account(public string) (string, error) {
	if !nkeys.IsValidPublicAccountKey(public) {
		return "", fmt.Errorf("%q is no public key of an account", public)
	}
	text, err := os.ReadFile(f.path(accountsDir, public+tokenExt))
	if err != nil {
		return "", fmt.Errorf("read the account: %w", err)
	}
	return string(text), nil
}

// System gives credentials of the system account, valid for a short time: with them Push sends accounts to a running nats-server.
func (f *AccessFolder) System() (token, seed string, err error) {
	account, err := f.key(systemAccount)
	if err != nil {
		return "", "", err
	}
	user := newUser()
	user.Name = "push"
	user.Expires = expiry()
	token, private, err := userOf(account, user)
	if err != nil {
		return "", "", fmt.Errorf("make credentials of the system account: %w", err)
	}
	return token, string(private), nil
}
