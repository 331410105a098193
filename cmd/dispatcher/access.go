package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// accessCmd manages the keys of a closed fleet.
type accessCmd struct {
	Init       accessInitCmd       `cmd:"" help:"Make the folder with the keys of a fleet."`
	Tenant     accessTenantCmd     `cmd:"" help:"Give a tenant credentials."`
	Agent      accessAgentCmd      `cmd:"" help:"Give the agent of a host credentials."`
	Dispatcher accessDispatcherCmd `cmd:"" help:"Give dispatchers credentials."`
	Operator   accessOperatorCmd   `cmd:"" help:"Give operators credentials."`
	Watcher    accessWatcherCmd    `cmd:"" help:"Give watchers credentials, who only read events."`
	Gateway    accessGatewayCmd    `cmd:"" help:"Give gateways credentials."`
	List       accessListCmd       `cmd:"" help:"List who has credentials."`
	Revoke     accessRevokeCmd     `cmd:"" help:"Revoke credentials."`
	Push       accessPushCmd       `cmd:"" help:"Send the accounts to a running nats-server that is not embedded."`
}

// Help is shown after the commands.
func (*accessCmd) Help() string {
	return `The commands that give credentials print the path of the file; given again they print it again and change only what
a flag says. ` + "`dispatcher run --access DIR`" + ` follows the folder while it runs.

Examples:
  dispatcher access init ./herd
  NATS_CREDS=$(dispatcher access agent ./herd gpu-1) COMFY_HOSTS=gpu-1=http://127.0.0.1:8188 agent`
}

// folderArg is the folder that a command is about.
type folderArg struct {
	Dir string `arg:"" name:"dir" type:"path" placeholder:"DIR" help:"The folder with the fleet's keys."`
}

// give opens the folder, makes credentials and prints the path of their file.
func (a *folderArg) give(c *daemon.Console, credentials func(*natsserver.AccessFolder) (string, error)) error {
	folder, err := natsserver.OpenAccess(a.Dir)
	if err != nil {
		return err
	}
	path, err := credentials(folder)
	if err != nil {
		return err
	}
	c.Print("%s", path)
	return nil
}

type accessInitCmd struct{ folderArg }

// Help is shown after the flags.
func (*accessInitCmd) Help() string {
	return `Makes the keys that sign accounts, the account of the fleet, and the credentials of its dispatchers.

Examples:
  dispatcher access init ./herd`
}

// Run makes the folder.
func (a *accessInitCmd) Run(c *daemon.Console) error {
	folder, err := natsserver.InitAccess(a.Dir)
	if err != nil {
		return err
	}
	if _, err := folder.Dispatcher(); err != nil {
		return err
	}
	c.Say("the fleet's keys are in %s; keep the folder secret, and a copy of it elsewhere", folder.Dir())
	c.Say("next      dispatcher access tenant %s NAME; dispatcher access agent %[1]s HOST; dispatcher run --access %[1]s", folder.Dir())
	return nil
}

type accessTenantCmd struct {
	folderArg
	Name       string      `arg:"" placeholder:"NAME" help:"Name of the tenant, as subjects have it."`
	MaxPayload daemon.Size `placeholder:"SIZE" unset:"2MiB" range:"1MiB.." help:"Largest message that NATS accepts from the tenant."`
}

// Help is shown after the flags.
func (*accessTenantCmd) Help() string {
	return `The tenant may publish to its own lanes, follow its own events and call for its own jobs, and nothing else.

Examples:
  dispatcher access tenant ./herd acme
  dispatcher access tenant ./herd acme --max-payload 8388608`
}

// Run gives a tenant credentials.
func (a *accessTenantCmd) Run(c *daemon.Console) error {
	return a.give(c, func(f *natsserver.AccessFolder) (string, error) {
		return f.Tenant(a.Name, natsserver.TenantSettings{MaxPayload: int64(a.MaxPayload)})
	})
}

type accessAgentCmd struct {
	folderArg
	Host    string   `arg:"" placeholder:"HOST" help:"The host, as COMFY_HOSTS names it."`
	Tenants []string `placeholder:"NAME" unset:"all" help:"Tenants whose jobs the host runs, repeatable; * is all."`
	Slots   int      `placeholder:"N" unset:"64" range:"1.." help:"Jobs that the host may claim to run at once, at most."`
}

// Help is shown after the flags.
func (*accessAgentCmd) Help() string {
	return `The agent may do what it needs for this host, and nothing for another. A host that serves some tenants gets only their jobs and
publishes only their events. Drain a host before it is taken from a tenant whose jobs it runs.

Examples:
  dispatcher access agent ./herd gpu-1
  dispatcher access agent ./herd gpu-2 --tenants acme,bolt --slots 2
  dispatcher access agent ./herd gpu-2 --tenants '*'`
}

// Run gives a host's agent credentials.
func (a *accessAgentCmd) Run(c *daemon.Console) error {
	return a.give(c, func(f *natsserver.AccessFolder) (string, error) {
		return f.Agent(a.Host, natsserver.AgentSettings{Tenants: a.Tenants, Slots: a.Slots})
	})
}

type accessDispatcherCmd struct{ folderArg }

// Help is shown after the flags.
func (*accessDispatcherCmd) Help() string {
	return "For dispatchers of a NATS that is not embedded; `dispatcher run --access` needs none.\n\nExamples:\n  dispatcher access dispatcher ./herd"
}

// Run gives dispatchers credentials.
func (a *accessDispatcherCmd) Run(c *daemon.Console) error {
	return a.give(c, (*natsserver.AccessFolder).Dispatcher)
}

type accessOperatorCmd struct{ folderArg }

// Help is shown after the flags.
func (*accessOperatorCmd) Help() string {
	return `Operators look after the fleet: every command of this program works with the file.

Examples:
  dispatcher access operator ./herd`
}

// Run gives operators credentials.
func (a *accessOperatorCmd) Run(c *daemon.Console) error {
	return a.give(c, (*natsserver.AccessFolder).Operator)
}

type accessWatcherCmd struct{ folderArg }

// Help is shown after the flags.
func (*accessWatcherCmd) Help() string {
	return `Watchers read every event and change nothing.

Examples:
  dispatcher access watcher ./herd`
}

// Run gives watchers credentials.
func (a *accessWatcherCmd) Run(c *daemon.Console) error {
	return a.give(c, (*natsserver.AccessFolder).Watcher)
}

type accessGatewayCmd struct{ folderArg }

// Help is shown after the flags.
func (*accessGatewayCmd) Help() string {
	return `Gateways act for every tenant: they publish and cancel jobs, keep files and settings, and read events, jobs and files. They
change nothing of the fleet.

Examples:
  dispatcher access gateway ./herd
  NATS_CREDS=$(dispatcher access gateway ./herd) COMFYHERD_GATEWAY_KEYS=acme=KEY1 dispatcher gateway`
}

// Run gives gateways credentials.
func (a *accessGatewayCmd) Run(c *daemon.Console) error {
	return a.give(c, (*natsserver.AccessFolder).Gateway)
}

type accessListCmd struct {
	folderArg
	JSON bool `help:"Print JSON."`
}

// Help is shown after the flags.
func (*accessListCmd) Help() string {
	return `Shows who has credentials, which tenants each host serves, and where the files are.

Examples:
  dispatcher access list ./herd
  dispatcher access list ./herd --json`
}

// Run lists who has credentials.
func (a *accessListCmd) Run(c *daemon.Console) error {
	folder, err := natsserver.OpenAccess(a.Dir)
	if err != nil {
		return err
	}
	holders, err := folder.List()
	if err != nil {
		return err
	}
	if a.JSON {
		return c.JSON(holders)
	}
	rows := [][]string{{"NAME", "TENANTS", "SLOTS", "CREDENTIALS"}}
	for _, h := range holders {
		tenants, slots := "", ""
		if h.Kind == natsserver.AgentHolder {
			tenants = "all"
		}
		if len(h.Tenants) > 0 {
			tenants = strings.Join(h.Tenants, ",")
		}
		if h.Slots > 0 {
			slots = strconv.Itoa(h.Slots)
		}
		rows = append(rows, []string{h.File(), tenants, slots, h.Creds})
	}
	return c.Table(rows)
}

type accessRevokeCmd struct {
	folderArg
	Name string `arg:"" placeholder:"NAME" help:"Whose credentials, as the list names them: tenant-acme, agent-gpu-1, operator."`
}

// Help is shown after the flags.
func (*accessRevokeCmd) Help() string {
	return `Open connections are closed and the file is not accepted any more. The name may be given new credentials.

Examples:
  dispatcher access revoke ./herd tenant-acme
  dispatcher access revoke ./herd agent-gpu-1`
}

// Run revokes credentials.
func (a *accessRevokeCmd) Run(c *daemon.Console) error {
	folder, err := natsserver.OpenAccess(a.Dir)
	if err != nil {
		return err
	}
	if err := folder.Revoke(a.Name); err != nil {
		return err
	}
	c.Say("%s is revoked where `dispatcher run --access` uses this folder; for another nats-server, run `dispatcher access push`", a.Name)
	return nil
}

type accessPushCmd struct {
	folderArg
	URL string `name:"url" placeholder:"URL" unset:"nats://127.0.0.1:4222" help:"The running nats-server."`
	CA  string `name:"tls-ca" placeholder:"FILE" type:"path" unset:"the system's" help:"PEM file of the authorities to trust."`
}

// Help is shown after the flags.
func (*accessPushCmd) Help() string {
	return `Needed after a change, for a nats-server that includes the folder's nats-server.conf.

Examples:
  dispatcher access push ./herd --url nats://10.0.0.1:4222`
}

// Run pushes every account into a running server.
func (a *accessPushCmd) Run(ctx context.Context, c *daemon.Console) error {
	folder, err := natsserver.OpenAccess(a.Dir)
	if err != nil {
		return err
	}
	token, seed, err := folder.System()
	if err != nil {
		return err
	}
	flags := daemon.NATSFlags{URL: a.URL, CA: a.CA}
	to := flags.NATS("dispatcher access push", daemon.Logger(c.Err, slog.LevelWarn, false))
	to.Options = []nats.Option{nats.UserJWTAndSeed(token, seed)}
	nc, err := daemon.Connect(ctx, to)
	if err != nil {
		return err
	}
	defer nc.Close()
	early := pushGrants(ctx, folder, to) // before the accounts: a host must not connect before its tenants are known
	n, err := folder.Push(ctx, nc)
	if err != nil {
		return err
	}
	if early != nil { // the server did not know the fleet's account yet
		if err := pushGrants(ctx, folder, to); err != nil {
			return fmt.Errorf("%d accounts were pushed, but not which tenants each host serves; push again: %w", n, err)
		}
	}
	c.Print("%d accounts pushed to %s", n, nc.ConnectedUrlRedacted())
	return nil
}
