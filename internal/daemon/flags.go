package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// DefaultURL is where a command looks for NATS when no flag or variable says where it is, and where
// `dispatcher run` starts one.
const DefaultURL = "nats://127.0.0.1:4222"

// NATSFlags are the flags of every command that talks to NATS. The tags are those of
// github.com/alecthomas/kong; flags without an env tag get COMFYHERD_<FLAG>.
type NATSFlags struct {
	URL      string `name:"nats-url" env:"NATS_URL" placeholder:"URL" unset:"nats://127.0.0.1:4222" help:"NATS servers, separated by commas."`
	Creds    string `name:"nats-creds" env:"NATS_CREDS" placeholder:"FILE" type:"path" help:"Credentials file (JWT and seed)."`
	NKey     string `name:"nkey" placeholder:"FILE" type:"path" help:"File with an nkey seed."`
	User     string `name:"nats-user" placeholder:"NAME" help:"User name."`
	Password string `name:"nats-password" placeholder:"PASSWORD" help:"Password; without a user it is a token. Set it in the environment, where ps does not show it."`
	Token    string `name:"nats-token" env:"NATS_TOKEN" placeholder:"TOKEN" help:"Token that NATS asks for, as an embedded one beyond this machine does. It may also be part of the URL."`
	CA       string `name:"tls-ca" placeholder:"FILE" type:"path" unset:"the system's" help:"PEM file of the authorities to trust."`
	Cert     string `name:"tls-cert" placeholder:"FILE" type:"path" help:"PEM file of the certificate to show; with an embedded NATS, the server's."`
	Key      string `name:"tls-key" placeholder:"FILE" type:"path" help:"PEM file of its key."`
	Domain   string `name:"js-domain" placeholder:"NAME" help:"JetStream domain, behind a leaf node."`
	Prefix   string `name:"js-prefix" placeholder:"SUBJECT" unset:"what the credentials file says" help:"JetStream API prefix, for an imported account."`
	Inbox    string `name:"inbox-prefix" placeholder:"SUBJECT" unset:"what the credentials file says, else _INBOX" help:"Prefix of the subjects that answers come to."`
}

// NATS says how to connect with these flags. An empty URL is DefaultURL.
func (f *NATSFlags) NATS(name string, log *slog.Logger) NATS {
	url := f.URL
	if url == "" {
		url = DefaultURL
	}
	return NATS{
		URL: url, Name: name, Creds: f.Creds, NKey: f.NKey, User: f.User, Password: f.Password,
		Token: f.Token, CA: f.CA, Cert: f.Cert, Key: f.Key, Inbox: f.Inbox, Log: log,
	}
}

// APIPrefix is what JetStream's API is called: as the flag says, else as the credentials do.
func (f *NATSFlags) APIPrefix() string {
	if f.Prefix != "" || f.Domain != "" || f.Creds == "" {
		return f.Prefix
	}
	return credentials(f.Creds).tag("js-prefix:")
}

// NoConsumers says that the credentials permit no consumer.
func (f *NATSFlags) NoConsumers() bool {
	return f.Creds != "" && slices.Contains(credentials(f.Creds).NATS.Tags, "consumers:none")
}

// NoRemovals says that the credentials permit to remove no message.
func (f *NATSFlags) NoRemovals() bool {
	return f.Creds != "" && slices.Contains(credentials(f.Creds).NATS.Tags, "removals:none")
}

// Holder is the name in the credentials file, as agent-gpu-1; empty without one.
func (f *NATSFlags) Holder() string {
	if f.Creds == "" {
		return ""
	}
	return credentials(f.Creds).Name
}

// OwnTenant is the tenant whose credentials these are; empty for all others, who may act for any.
func (f *NATSFlags) OwnTenant() string {
	if f.Creds == "" {
		return ""
	}
	return credentials(f.Creds).tag("tenant:")
}

// LogFlags are the flags of every command that stays.
type LogFlags struct {
	Level string `name:"log-level" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"Lowest level that is logged to standard error."`
	JSON  bool   `name:"log-json" help:"Log JSON lines."`
}

// Logger is the log that these flags ask for. An unknown level is an error.
func (f *LogFlags) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.Level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", f.Level)
	}
	return Logger(w, level, f.JSON), nil
}
