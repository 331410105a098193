// Advanced shows what a fleet of several tenants is like, and checks what it shows: three tenants with unequal weights share the
// hosts while one floods them; jobs go to hosts that have their models loaded; a host that fails on everything is found and drained
// by a policy that is a program of ours. It ends with 0 only if each claim that it prints was observed in the stored events.
//
//	go run ./examples/advanced
//	COMFY_HOSTS=http://10.0.0.5:8188,http://10.0.0.6:8188 go run ./examples/advanced
//
// Without COMFY_HOSTS it has four simulated hosts. On real ones it needs no models and no custom nodes; one small picture stays on
// each, in the folder comfyherd-advanced. NATS, two dispatchers and the agents run in this process, and nothing else is left.
//
// What an operator would copy is in the package operator beside this one, which uses the package jetstream and NATS alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/jetstream"
)

// settings are what the command line says, and how much is played.
type settings struct {
	hosts string // as in COMFY_HOSTS; empty: simulated ones
	out   io.Writer
	log   *slog.Logger // of dispatchers and agents
	size  int          // 3 for a person, 1 for a test: how many jobs there are, and how slowly they come
}

func main() {
	verbose := flag.Bool("verbose", false, "log to standard error what dispatchers and agents do")
	flag.Parse()
	s := settings{hosts: os.Getenv("COMFY_HOSTS"), out: os.Stdout, log: slog.New(slog.DiscardHandler), size: 3}
	if *verbose {
		s.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "advanced:", err)
		os.Exit(1)
	}
}

// The tenants, and their weights.
var (
	tenants = []jetstream.Tenant{"acme", "bolt", "coral"}
	weights = map[jetstream.Tenant]float64{"acme": 3, "bolt": 2, "coral": 1}
)

// limit bounds the whole.
const limit = 3 * time.Minute

// play is one run of the example. One goroutine owns it.
type play struct {
	settings
	fleet  *fleet
	record *record
	watch  *watch
	began  time.Time
	unseen []string // claims that were not observed

	ruled map[jetstream.Hash]bool // workflows with an affinity rule
}

// run plays all chapters and prints them. Its error says what was not observed.
func run(ctx context.Context, s settings) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f, err := openFleet(ctx, &s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	p := &play{settings: s, fleet: f, began: time.Now(), ruled: map[jetstream.Hash]bool{}}
	p.record = follow(ctx, f)
	defer p.record.close()
	if p.watch, err = watchOver(ctx, p); err != nil {
		return err
	}
	defer p.watch.close()
	p.head()
	for _, chapter := range []func(context.Context) error{p.shares, p.warmth, p.failover} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	if err := p.report(); err != nil {
		return err
	}
	if len(p.unseen) > 0 {
		return fmt.Errorf("not observed: %s", strings.Join(p.unseen, "; "))
	}
	p.say("\nEach claim was observed in the stored events, in %s.", daemon.Span(time.Since(p.began)))
	return nil
}

func (p *play) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

func (p *play) head() {
	kind := "simulated"
	if p.hosts != "" {
		kind = "real"
	}
	p.say("%s, three tenants: acme has weight 3, bolt 2, coral 1.", daemon.Plural(len(p.fleet.hosts), kind+" host"))
}

// claim prints whether something was observed.
func (p *play) claim(seen bool, what, how string, args ...any) {
	if !seen {
		p.unseen = append(p.unseen, what)
		p.say("  ✗ not observed: %s (%s)", what, fmt.Sprintf(how, args...))
		return
	}
	p.say("  ✓ %s (%s)", what, fmt.Sprintf(how, args...))
}

// submit publishes a job of a tenant.
func (p *play) submit(ctx context.Context, tenant jetstream.Tenant, spec jetstream.Spec) error {
	_, err := p.fleet.client(tenant).Submit(ctx, 5, spec)
	if err != nil {
		return fmt.Errorf("submit %s of %s: %w", spec.ID, tenant, err)
	}
	return nil
}
