// Service is an image service for several customers on a comfyherd fleet: a template to copy. Every customer is a tenant,
// so that the fleet keeps their jobs, files and shares apart.
//
//	POST   /v1/images                {"prompt":"a cat","seed":7}; a repeated Idempotency-Key gives the same image
//	GET    /v1/images/{id}           state, place in the queue, files
//	GET    /v1/images/{id}/events    the same as server-sent events until it has ended
//	GET    /v1/images/{id}/files/{n} the bytes of a file
//	DELETE /v1/images/{id}           cancels it
//	GET    /v1/usage                 what the customer has used
//
// A customer sends its key as "Authorization: Bearer KEY". The service keeps nothing of its own: after a restart it counts
// the usage again from the events that NATS stores (72 h by default), and any number of services may run side by side.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// settings are what the command line says.
type settings struct {
	listen, nats, creds, customers, workflow, alertURL string
	failures                                           int
}

func main() {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:8000", "address to serve on")
	flag.StringVar(&s.nats, "nats", nats.DefaultURL, "URL of NATS")
	flag.StringVar(&s.creds, "creds", "", "folder with a tenant-NAME.creds for each customer, in a closed fleet")
	flag.StringVar(&s.customers, "customers", "customers.json", "file that lists the customers")
	flag.StringVar(&s.workflow, "workflow", "workflow_api.json", "workflow in ComfyUI's API format, with $prompt as a text and $seed as a seed")
	flag.StringVar(&s.alertURL, "alert-url", "", "where alerts are posted as JSON, beside the log")
	flag.IntVar(&s.failures, "alert-after", 5, "dead jobs of a customer within ten minutes that raise an alert")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and finishes the requests under way. ready is called with the address once it listens.
func run(ctx context.Context, s settings, log *slog.Logger, ready func(net.Addr)) error {
	customers, err := readCustomers(s.customers)
	if err != nil {
		return err
	}
	workflow, err := os.ReadFile(s.workflow)
	if err != nil {
		return fmt.Errorf("read the workflow: %w", err)
	}
	if !json.Valid(workflow) || !bytes.Contains(workflow, []byte(`"$prompt"`)) {
		return fmt.Errorf("%s must be JSON in ComfyUI's API format, with \"$prompt\" as the text of a node", s.workflow)
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	a := &api{workflow: workflow, byKey: map[string]*customer{}, stopping: ctx.Done(), log: log}
	var counting sync.WaitGroup
	defer counting.Wait()
	counts, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	alert := alerter{url: s.alertURL, after: s.failures, log: log}
	for _, c := range customers {
		if err := c.connect(s); err != nil {
			return err
		}
		defer c.conn.Close()
		a.byKey[c.Key] = c
		counting.Go(func() { c.count(counts, alert) })
	}
	log.Info("serving", "address", listener.Addr().String(), "customers", len(customers))
	if ready != nil {
		ready(listener.Addr())
	}
	return serveUntil(ctx, listener, a.routes(), log)
}

// connect opens the customer's own connection, with credentials of its own in a closed fleet.
func (c *customer) connect(s settings) error {
	options := []nats.Option{
		nats.Name("image service for " + string(c.Name)), nats.MaxReconnects(-1),
	}
	if s.creds != "" {
		options = append(options, nats.UserCredentials(fmt.Sprintf("%s/tenant-%s.creds", s.creds, c.Name)))
	}
	nc, err := nats.Connect(s.nats, options...)
	if err != nil {
		return fmt.Errorf("connect as %s to %s: %w", c.Name, s.nats, err)
	}
	c.conn, c.herd = nc, jetstream.NewClient(nc, c.Name)
	return nil
}

// serveUntil serves until ctx ends, and then waits ten seconds for the requests under way.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping: requests under way are finished")
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(finish); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// readCustomers reads a file such as {"acme":{"key":"…","priority":5}}.
func readCustomers(path string) ([]*customer, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the customers: %w", err)
	}
	named := map[jetstream.Tenant]*customer{}
	if err := json.Unmarshal(body, &named); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var all []*customer
	keys := map[string]bool{}
	for name, c := range named {
		if c == nil || len(c.Key) < 12 || keys[c.Key] {
			return nil, fmt.Errorf("%s: %s needs a key of its own with at least 12 characters", path, name)
		}
		keys[c.Key], c.Name = true, name
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no customer", path)
	}
	return all, nil
}
