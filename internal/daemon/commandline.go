package daemon

import (
	"context"
	"errors"

	"github.com/alecthomas/kong"
)

// CommandLine reads the command lines of a program. Its grammar is a struct with the tags of github.com/alecthomas/kong
// and with those of Limits, which it embeds.
type CommandLine struct {
	*kong.Kong

	program string
	console *Console
	printed int // exit code of --help or --version, which print while the line is read; -1: neither was asked for
}

// NewCommandLine makes the reader of a grammar. Commands get ctx, the console and all that options bind.
func NewCommandLine(ctx context.Context, program, about string, grammar any, c *Console, options ...kong.Option) (*CommandLine, error) {
	l := &CommandLine{program: program, console: c, printed: -1}
	var err error
	l.Kong, err = kong.New(grammar, append([]kong.Option{
		kong.Name(program), kong.Description(about), kong.Writers(c.Out, c.Err),
		kong.Exit(func(code int) { l.printed = code }),
		kong.Vars{"version": "comfyherd " + program + " " + Version()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c),
		kong.ValueFormatter(HelpText), kong.Resolvers(&configFile{}),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	nameVariables(l.Model.Node)
	return l, nil
}

// Read reads a command line without running its command. A line that asks for help or for the version is correct.
func (l *CommandLine) Read(args []string) error {
	if _, err := l.Parse(args); err != nil && l.printed < 0 {
		return fileFirst(err)
	}
	return nil
}

// Run reads a command line, runs its command and returns the exit code of the process.
func (l *CommandLine) Run(args []string) int {
	command, err := l.Parse(args)
	switch {
	case l.printed >= 0:
		return l.printed
	case err != nil:
		return l.console.End(l.program, l.misused(err))
	}
	return l.console.End(l.program, command.Run())
}

// misused adds to an error of the command line where to read about it.
func (l *CommandLine) misused(err error) error {
	if _, is := errors.AsType[*configError](err); is {
		return fileFirst(err)
	}
	help := l.program + " --help"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok {
		if command := parse.Context.Selected(); command != nil && !command.Hidden {
			help = command.FullPath() + " --help"
		}
	}
	return errors.New(err.Error() + "; see `" + help + "`")
}

// fileFirst is the error of --config when that is what was wrong: kong puts the name of a flag before it.
func fileFirst(err error) error {
	if file, is := errors.AsType[*configError](err); is {
		return file
	}
	return err
}
