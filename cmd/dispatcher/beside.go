package main

import (
	"context"
	"sync"

	"github.com/comfyherd/comfyherd/internal/webhook"
)

// withWebhooks runs a dispatcher and delivers to webhooks beside it, until the dispatcher has ended.
func withWebhooks(hooks *webhook.Webhooks, run func(stop, kill context.Context) error) func(stop, kill context.Context) error {
	return func(stop, kill context.Context) error {
		delivering, end := context.WithCancel(kill)
		var delivered sync.WaitGroup
		defer delivered.Wait()
		defer end()
		delivered.Go(func() { _ = hooks.Run(delivering) }) // it ends with its context only, and says that
		return run(stop, kill)
	}
}
