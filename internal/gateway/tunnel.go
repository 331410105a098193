package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// tunnel asks hosts for pages of their ComfyUI. What a host has answered is kept for a while: the pages describe an installation.
type tunnel struct {
	ask   func(ctx context.Context, host string, r queue.PageRequest) (queue.Page, error)
	pages *cache[*hostPage]

	mu    sync.Mutex // guards all below
	hosts map[string]chan struct{}
}

// hostPage is what a host has answered; page is set for status 200.
type hostPage struct {
	status int
	page   *page
}

const (
	mostTunnelled = 64 << 20 // bytes of answers that are kept
	pagesAtOnce   = 2        // of one host: its agent passes on as many
	mostAnswers   = 8        // hosts that are asked for one page, beside those that are offline
	tunnelTime    = 30 * time.Second
	busyPause     = 100 * time.Millisecond // before a host that other gateways keep busy is asked again
)

func newTunnel(ask func(context.Context, string, queue.PageRequest) (queue.Page, error), goroutines *sync.WaitGroup) *tunnel {
	return &tunnel{ask: ask, pages: newCache[*hostPage](mostTunnelled, goroutines), hosts: map[string]chan struct{}{}}
}

// get is a page of a host. The error is queue.ErrNoAgent when the host is offline.
func (t *tunnel) get(ctx context.Context, host string, r queue.PageRequest) (*hostPage, error) {
	return t.pages.get(ctx, host+"\n"+r.Route+"\n"+r.Query.Encode(), func(ctx context.Context) (cached[*hostPage], error) {
		answer, err := t.getInTurn(ctx, host, r)
		if err != nil {
			return cached[*hostPage]{}, err
		}
		got := &hostPage{status: answer.Status}
		size := pageOverhead
		if answer.Status == http.StatusOK {
			p := newPage(answer.Body)
			p.kind = answer.ContentType
			got.page, size = &p, p.size()
		}
		if answer.Status >= http.StatusInternalServerError {
			size = 0 // it may answer in a moment
		}
		return cached[*hostPage]{got, size, answeredAt(answer.Status)}, nil
	})
}

// answeredAt is until when an answer of a host is used.
func answeredAt(status int) time.Time {
	if status == http.StatusOK {
		return time.Now().Add(5 * time.Minute)
	}
	return time.Now().Add(30 * time.Second)
}

// getInTurn asks a host for no more pages at once than it answers, and again when others keep it busy.
func (t *tunnel) getInTurn(ctx context.Context, host string, r queue.PageRequest) (queue.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, tunnelTime)
	defer cancel()
	turns := t.turns(host)
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return queue.Page{}, ctx.Err()
	}
	defer func() { <-turns }()
	for {
		answer, err := t.ask(ctx, host, r)
		if err != nil || answer.Status != http.StatusTooManyRequests || !queue.Pause(ctx, busyPause) {
			return answer, err
		}
	}
}

func (t *tunnel) turns(host string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hosts[host] == nil {
		t.hosts[host] = make(chan struct{}, pagesAtOnce)
	}
	return t.hosts[host]
}

var (
	errNoHost    = &failed{http503, "no_host", "no host that could answer this is online: send the request again later"}
	errHostFails = &failed{http.StatusBadGateway, "host_failed", "the hosts that were asked could not answer this: their own logs say why"}
)

// anyHost is the page of the first host that has it. When none has it the error is absent; when those that were asked have
// failed, errHostFails; when none could be asked, errNoHost.
func (g *Gateway) anyHost(ctx context.Context, hosts []string, r queue.PageRequest, absent error) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, tunnelTime)
	defer cancel()
	asked, answered := 0, len(hosts) == 0
	for _, host := range hosts {
		if asked == mostAnswers {
			break
		}
		got, err := g.tunnel.get(ctx, host, r)
		if errors.Is(err, queue.ErrNoAgent) {
			continue
		}
		asked++
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			g.log.Info("a host does not answer a request for a page", "host", host, "route", r.Route, "error", err)
		case got.page != nil:
			return got.page, nil
		case got.status < http.StatusInternalServerError:
			answered = true
		}
	}
	switch {
	case answered:
		return nil, absent
	case asked > 0:
		return nil, errHostFails
	}
	return nil, errNoHost
}
