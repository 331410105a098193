package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// commands are all that `agent` can be asked to do.
type commands struct {
	Version kong.VersionFlag `short:"v" env:"-" help:"Print the version and exit."`

	settings

	Run    runCmd    `cmd:"" default:"1" hidden:""`
	Health healthCmd `cmd:"" help:"Ask the agent on this machine whether it does its work."`
}

const about = `Runs the jobs of ComfyUI hosts for comfyherd's dispatchers.

Examples:
  COMFY_HOSTS=http://127.0.0.1:8188 agent
  agent --comfy-hosts big=http://10.0.0.5:8188,small=http://10.0.0.6:8188 --nats-url nats://10.0.0.1
  agent --comfy-hosts http://127.0.0.1:8188 --label gpu=4090 --http :8080

Every flag has an environment variable, shown beside it.`

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, c console) int {
	ended := -1
	parser, err := newParser(ctx, &commands{}, &c, &ended)
	if err != nil {
		return c.end(err)
	}
	parsed, err := parser.Parse(args)
	if ended >= 0 {
		return ended
	}
	if err != nil {
		return c.end(errors.New(err.Error() + "; see `agent --help`"))
	}
	return c.end(parsed.Run())
}

// newParser reads command lines into all. --help and --version print at once and set ended to their exit code.
func newParser(ctx context.Context, all *commands, c *console, ended *int) (*kong.Kong, error) {
	parser, err := kong.New(all,
		kong.Name("agent"), kong.Description(about), kong.Writers(c.out, c.err),
		kong.Exit(func(code int) { *ended = code }),
		kong.Vars{"version": "comfyherd agent " + daemon.Version()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "jobs", Title: "Jobs:"}, {Key: "nats", Title: "Connection to NATS:"}, {Key: "log", Title: "Log:"},
		}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c, &all.settings),
		kong.ValueFormatter(daemon.HelpText),
	)
	if err == nil {
		daemon.Variables(parser.Model.Node)
	}
	return parser, err
}

// end says what went wrong, if anything, and gives the exit code.
func (c *console) end(err error) int {
	if err == nil {
		return 0
	}
	c.say("agent: %s", withoutPasswords(err.Error()))
	return 1
}

// userAndPassword is what may stand before the @ of an address.
var userAndPassword = regexp.MustCompile(`[^\s"'=/:]*:[^\s"']*@`)

// withoutPasswords is a text fit to be shown: what reads the command line quotes arguments that it does not know.
func withoutPasswords(text string) string { return userAndPassword.ReplaceAllStringFunc(text, hidden) }

// hidden keeps what stands before the user: a scheme, or a host's name.
func hidden(address string) string {
	if scheme, _, found := strings.Cut(address, "://"); found {
		return scheme + "://…@"
	}
	return "…@"
}

// say writes a line about the way to standard error.
func (c *console) say(format string, args ...any) {
	fmt.Fprintln(c.err, daemon.Printable(fmt.Sprintf(format, args...)))
}
