package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/outside"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
)

// observe starts what watches a fleet beside its dispatchers: with Observed their metrics are read every second, traces are exported to a
// receiver that drops them, and webhooks are delivered, of which there is none; with Viewers there is the page. All of it counts as the fleet's CPU, and so do viewers and receiver.
func (s *stage) observe(ctx context.Context) error {
	if s.cfg.Observed {
		s.actors.Go(func() {
			for queue.Pause(ctx, time.Second) {
				_, _ = s.metrics.Gather() // only the time that it takes matters, so an error is ignored
			}
		})
		if err := s.observer(ctx, "webhooks", func(q *queue.Queue) (runner, error) { return outside.NewWebhooks(q, outside.WebhookConfig{}) }); err != nil {
			return err
		}
	}
	if s.cfg.Viewers == 0 {
		return nil
	}
	page, err := s.served(ctx, nil)
	if err != nil {
		return err
	}
	err = s.observer(ctx, "page", func(q *queue.Queue) (runner, error) {
		d, err := dashboard.New(q, dashboard.Config{MostViewers: s.cfg.Viewers})
		return onListener{d, page}, err
	})
	for i := 0; err == nil && i < s.cfg.Viewers; i++ {
		err = s.view(ctx, "http://"+page.Addr().String())
	}
	return err
}

// traced exports the traces of a dispatcher to a receiver that drops them; the dispatcher calls jobEnded.
func (s *stage) traced(ctx context.Context, q *queue.Queue) (jobEnded func(queue.JobEnd), err error) {
	receiver, err := s.served(ctx, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	if err != nil {
		return nil, err
	}
	traces, err := trace.New(ctx, q, trace.Config{Endpoint: "http://" + receiver.Addr().String(), Ratio: s.cfg.TraceRatio})
	if err != nil {
		return nil, err
	}
	s.actors.Go(func() { _ = traces.Run(ctx) })
	s.traces = append(s.traces, traces)
	return traces.JobEnded, nil
}

// exported waits until the traces of all jobs that have ended are exported, so that what they cost is measured whole.
func (s *stage) exported(ctx context.Context) {
	for _, t := range s.traces {
		for t.Pending() > 0 && queue.Pause(ctx, 50*time.Millisecond) {
		}
	}
}

type runner interface {
	Run(ctx context.Context) error
}

type onListener struct {
	*dashboard.Dashboard

	l net.Listener
}

// Run serves the page until ctx ends.
func (o onListener) Run(ctx context.Context) error { return o.Dashboard.Run(ctx, o.l) }

// observer starts something with a connection of its own, as a process of its own would have.
func (s *stage) observer(ctx context.Context, name string, begin func(q *queue.Queue) (runner, error)) error {
	q, err := s.queue(ctx, "bench-"+name, s.place.holders.dispatcher(), queue.Config{})
	if err != nil {
		return err
	}
	one, err := begin(q)
	if err != nil {
		q.Close()
		return err
	}
	s.act(ctx, q, func(stop, _ context.Context) error { return one.Run(stop) })
	return nil
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
