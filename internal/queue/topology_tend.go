package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// checkPause is the time between two checks of the streams. An advisory of NATS that a stream was created or deleted starts one at once.
const checkPause = 10 * time.Second

// keepStreams checks for streams and buckets that another program has deleted, and makes them again unless the Queue is read-only. When
// several programs do so at the same time, all use the stream of the first. The content is lost; jobs that were in COMFY_JOBS must be
// published again.
func (q *Queue) keepStreams(ctx context.Context) {
	ctx, q.stopKeeping = context.WithCancel(context.WithoutCancel(ctx))
	if q.cfg.ReadOnly {
		return
	}
	wake := make(chan struct{}, 1)
	stop := q.followAdvisories(wake)
	q.keeping.Go(func() {
		defer stop()
		look := time.NewTicker(checkPause)
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-wake:
			case <-q.reconnects.over:
				return
			case <-ctx.Done():
				return
			}
			if q.Connected() {
				q.restoreMissing(ctx)
			}
		}
	})
}

// followAdvisories sends to wake at every advisory of NATS about a stream, until stop. A program that may not subscribe to them
// checks every checkPause only.
func (q *Queue) followAdvisories(wake chan<- struct{}) (stop func()) {
	if q.cfg.NoConsumers { // an account of its own, where nothing is made
		return func() {}
	}
	advisories, err := q.nc.Subscribe("$JS.EVENT.ADVISORY.STREAM.*.*", func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default: // a check is due already
		}
	})
	if err != nil {
		return func() {}
	}
	return func() { _ = advisories.Unsubscribe() } // the connection may be closed already
}

func (q *Queue) restoreMissing(ctx context.Context) {
	t, before := topology{js: q.js, cfg: q.cfg, room: q.room}, q.jobs.CachedInfo().Config
	t.cfg.PresenceTTL, t.cfg.EventsAge = q.presenceTTL, q.eventsAge
	t.cfg.Replicas, t.cfg.LaneCap = before.Replicas, int(before.MaxMsgsPerSubject)
	for _, want := range []wanted{t.events(), t.jobs(), t.dead(), t.live()} {
		q.restore(ctx, want.Name, want.Name, func(ctx context.Context) error { return t.stream(ctx, want) })
	}
	for _, want := range t.buckets() {
		name := names.BucketOf(want.Name)
		q.restore(ctx, want.Name, name, func(ctx context.Context) error {
			err := t.stream(ctx, want)
			if err == nil && name == names.SecretsBucket {
				err = q.makeSecrets(ctx)
			}
			return err
		})
	}
	for _, store := range stores() {
		want := t.files(store)
		q.restore(ctx, want.Name, store, func(ctx context.Context) error { return t.stream(ctx, want) })
	}
	if err := q.lookAtJobs(ctx); err != nil && ctx.Err() == nil && !unreachable(err) && !errors.Is(err, natsjs.ErrStreamNotFound) {
		q.warn(err)
	}
}

// restore makes a stream again when it is missing. name is that of the bucket or store that it keeps, for people.
func (q *Queue) restore(ctx context.Context, stream, name string, create func(context.Context) error) {
	if q.missing(ctx, stream) {
		q.remake(ctx, name, create)
	}
}

func (q *Queue) missing(ctx context.Context, stream string) bool {
	_, err := q.streamState(ctx, stream)
	return errors.Is(err, natsjs.ErrStreamNotFound)
}

// remake makes a stream again. COMFY_JOBS must be created in a later second than before, since ids that the system makes contain that
// second.
func (q *Queue) remake(ctx context.Context, name string, create func(context.Context) error) {
	if name == names.JobsStream {
		if next := q.Created().Truncate(time.Second).Add(time.Second + 100*time.Millisecond); !Pause(ctx, next.Sub(q.Now())) {
			return
		}
	}
	once, cancel := context.WithTimeout(ctx, orderedTimeout)
	defer cancel()
	switch err := create(once); {
	case err == nil:
		q.warn(fmt.Errorf("%s was deleted and was made again; what it held is lost", name))
	case ctx.Err() == nil:
		q.warn(fmt.Errorf("%s was deleted, and could not be made again: %w", name, err))
	}
}

// lookAtJobs reads when COMFY_JOBS was created, and its limits.
func (q *Queue) lookAtJobs(ctx context.Context) error {
	info, err := q.streamState(ctx, names.JobsStream)
	if err != nil {
		return err
	}
	if !info.Created.Equal(q.Created()) {
		q.made.Store(&info.Created)
	}
	q.keepJobLimits(&info.Config)
	return nil
}
