package main

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/queue"
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
