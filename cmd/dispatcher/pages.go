package main

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// eachPage asks for page after page, until keep, which gets each of them and sets where the next one begins, says that there
// are no more.
func eachPage[Page any](ask func() (Page, error), keep func(*Page) (more bool)) error {
	for {
		page, err := ask()
		if err != nil {
			return err
		}
		if !keep(&page) {
			return nil
		}
	}
}

// following sets where the next page begins, and reports whether there is one: the zero cursor is the end.
func following[Cursor comparable](after *Cursor, next Cursor) bool {
	*after = next
	return next != *new(Cursor)
}

// asking is one call of the operators' API, with a request that may change between two pages.
func asking[Answer, Request any](ctx context.Context, q *queue.Queue, name string, request *Request) func() (Answer, error) {
	return func() (answer Answer, err error) {
		err = q.Call(ctx, name, request, &answer)
		return answer, err
	}
}

// listing is a call that lists what one tenant has, or all tenants have.
type listing[Answer, Request any] struct {
	name    string                                                            // of the operators' call
	own     func(*jetstream.Client, context.Context, Request) (Answer, error) // the tenant's call
	request *Request                                                          // which may change between two pages
}

// asker asks for what one tenant has, or for what all have when an operator names none. now is NATS' time.
func (l listing[Answer, Request]) asker(ctx context.Context, c *daemon.Console, f *client, tenant string) (ask func() (Answer, error), now func() time.Time, done func(), err error) {
	if tenant != "" || f.OwnTenant() != "" {
		a, client, err := f.asTenant(ctx, c, tenant)
		if err != nil {
			return nil, nil, nil, err
		}
		return func() (Answer, error) { return l.own(client, ctx, *l.request) }, client.Now, a.close, nil
	}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return nil, nil, nil, err
	}
	return asking[Answer](ctx, q, l.name, l.request), q.Now, done, nil
}
