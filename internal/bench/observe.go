package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
	"github.com/comfyherd/comfyherd/internal/webhook"
)

// observe starts what watches a fleet beside its dispatchers: the page with one viewer, the export of traces to a receiver that drops them,
// and webhooks, of which there is none. All of it counts as the fleet's CPU, and so do viewer and receiver.
func (s *stage) observe(ctx context.Context) error {
	page, err := s.served(ctx, nil)
	if err != nil {
		return err
	}
	receiver, err := s.served(ctx, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	if err != nil {
		return err
	}
	for name, begin := range map[string]func(q *queue.Queue) (func(context.Context) error, error){
		"page": func(q *queue.Queue) (func(context.Context) error, error) {
			d, err := dashboard.New(q, dashboard.Config{})
			return func(ctx context.Context) error { return d.Run(ctx, page) }, err
		},
		"traces": func(q *queue.Queue) (func(context.Context) error, error) {
			t, err := trace.New(ctx, q, trace.Config{Endpoint: "http://" + receiver.Addr().String(), Ratio: s.cfg.TraceRatio})
			if err != nil {
				return nil, err
			}
			return t.Run, nil
		},
		"webhooks": func(q *queue.Queue) (func(context.Context) error, error) {
			w, err := webhook.New(q, webhook.Config{})
			if err != nil {
				return nil, err
			}
			return w.Run, nil
		},
	} {
		q, err := s.queue(ctx, "bench-"+name, s.place.holders.dispatcher(), queue.Config{})
		if err != nil {
			return err
		}
		run, err := begin(q)
		if err != nil {
			q.Close()
			return err
		}
		s.act(ctx, q, func(stop, _ context.Context) error { return run(stop) })
	}
	return s.view(ctx, "http://"+page.Addr().String())
}

// served is a listener on loopback, which serves h, if there is one, until ctx ends.
func (s *stage) served(ctx context.Context, h http.Handler) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil || h == nil {
		return l, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	s.actors.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = server.Close() })()
		_ = server.Serve(l) // it ends with ctx only
	})
	return l, nil
}

// view reads the page's stream of changes, as a browser does, until ctx ends.
func (s *stage) view(ctx context.Context, address string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/live", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("open the page's stream: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return fmt.Errorf("the page's stream answers %s", answer.Status)
	}
	s.actors.Go(func() {
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	})
	return nil
}
