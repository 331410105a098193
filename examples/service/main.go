// Service is an image service for several customers on a comfyherd fleet: a template to copy. Every customer is a tenant,
// so that the fleet keeps their jobs, files and shares apart.
//
//	POST /v1/images               {"prompt":"a cat","seed":7}; a repeated Idempotency-Key gives the same image
//	GET  /v1/images/{id}          state, place in the queue, files
//	GET  /v1/images/{id}/events   the same as server-sent events until it has ended
//	GET  /v1/files/{name}         the bytes of a file
//	GET  /v1/usage                what the customer has used, and what failed
//
// A customer sends its key as "Authorization: Bearer KEY". The service keeps nothing of its own: after a restart it counts
// the usage again from the events that NATS stores (72 h by default), and any number of services may run side by side.
package main

import (
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
	nats, creds, customers, workflow, alertURL string
	alertAfter                                 int
}

func main() {
	var s settings
	listen := flag.String("listen", "127.0.0.1:8000", "address to serve on")
	flag.StringVar(&s.nats, "nats", nats.DefaultURL, "URL of NATS")
	flag.StringVar(&s.creds, "creds", "", "folder with a tenant-NAME.creds for each customer, in a closed fleet")
	flag.StringVar(&s.customers, "customers", "customers.json", `file with the key of each customer, as {"acme":"KEY"}`)
	flag.StringVar(&s.workflow, "workflow", "workflow_api.json", "workflow in ComfyUI's API format, with $prompt as a text and $seed as a seed")
	flag.StringVar(&s.alertURL, "alert-url", "", "where alerts are posted as JSON, beside the log")
	flag.IntVar(&s.alertAfter, "alert-after", 5, "dead jobs of a customer, with no completed one between them, that raise an alert")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *listen)
	if err == nil {
		err = run(ctx, s, listener)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Then streams of events end, and other requests have ten seconds to finish.
func run(ctx context.Context, s settings, listener net.Listener) error {
	defer listener.Close()
	workflow, err := os.ReadFile(s.workflow)
	if err != nil {
		return err
	}
	customers, err := connect(s)
	if err != nil {
		return err
	}
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	var counting sync.WaitGroup
	for _, c := range customers {
		counting.Go(func() { c.count(work, s) })
	}
	defer func() {
		end()
		counting.Wait()
		for _, c := range customers {
			c.conn.Close()
		}
	}()
	server := &http.Server{Handler: (&api{workflow, customers}).routes(ctx), ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		finish, cancel := context.WithTimeout(work, 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(finish)
	})()
	slog.Info("serving", "address", listener.Addr().String(), "customers", len(customers))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// connect gives the customers of the file by their keys, each with a connection of its own.
func connect(s settings) (map[string]*customer, error) {
	var keys map[jetstream.Tenant]string
	body, err := os.ReadFile(s.customers)
	if err == nil {
		err = json.Unmarshal(body, &keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.customers, err)
	}
	customers := map[string]*customer{}
	for name, key := range keys {
		if len(key) < 12 || customers[key] != nil {
			return nil, fmt.Errorf("%s: %s needs a key of its own with at least 12 characters", s.customers, name)
		}
		options := []nats.Option{nats.Name("image service for " + string(name)), nats.MaxReconnects(-1)}
		if s.creds != "" {
			options = append(options, nats.UserCredentials(fmt.Sprintf("%s/tenant-%s.creds", s.creds, name)))
		}
		nc, err := nats.Connect(s.nats, options...)
		if err != nil {
			return nil, fmt.Errorf("connect as %s to %s: %w", name, s.nats, err)
		}
		customers[key] = &customer{name: name, conn: nc, herd: jetstream.NewClient(nc, name), usage: usage{Failed: map[string]int{}}}
	}
	return customers, nil
}
