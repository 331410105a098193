package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// clearTime bounds the clearing of a named NATS.
const clearTime = time.Minute

// unused refuses a NATS on another machine, and one that has a fleet or work for one: the bench's hosts would take its
// jobs and end them with nothing done, its dispatchers would take the bench's, and the raw stage would take its streams.
func unused(ctx context.Context, urls string) error {
	if err := loopback(ctx, urls); err != nil {
		return err
	}
	nc, err := nats.Connect(urls)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", urls, err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	var found []string
	for _, one := range []struct {
		name, what string
		count      func(context.Context, natsjs.JetStream, string) (int, error)
	}{
		{names.JobsStream, "unfinished jobs", messages}, {names.HostsBucket, "hosts", keys}, {names.DispatchersBucket, "dispatchers", keys},
	} {
		n, err := one.count(ctx, js, one.name)
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, natsjs.ErrJetStreamNotEnabled) {
			return fmt.Errorf("the NATS at %s has no JetStream: start it with -js, or leave NATS_URL empty", urls)
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", urls, err)
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, one.what))
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("the NATS at %s has %s: bench would end jobs that are not its own with nothing done; give it a NATS of its own, or leave NATS_URL empty",
			urls, strings.Join(found, ", "))
	}
	return nil
}

// messages counts those of a stream, which may be missing.
func messages(ctx context.Context, js natsjs.JetStream, name string) (int, error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int(stream.CachedInfo().State.Msgs), nil
}

// keys counts those of a bucket, which may be missing.
func keys(ctx context.Context, js natsjs.JetStream, bucket string) (int, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, natsjs.ErrBucketNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	found, err := kv.Keys(ctx)
	if errors.Is(err, natsjs.ErrNoKeysFound) {
		return 0, nil
	}
	return len(found), err
}

// clear removes from a named NATS what other fleets would work on: the jobs that have not ended, their tickets, the blocks of the
// bench's hosts, and the presence of hosts and dispatchers, which would last for some seconds more. None of it was there before (see
// unused). The streams stay, with their events.
func (s *stage) clear(ctx context.Context) error {
	lanes := make([]string, s.cfg.Tenants)
	for i := range lanes {
		lanes[i] = "comfy.jobs." + s.load.tenant(i) + ".5"
	}
	pairs := make([]string, s.cfg.Hosts)
	for i := range pairs {
		pairs[i] = "$KV." + names.BlocksBucket + "." + hostName(i) + ".>"
	}
	hosts := []string{"$KV." + names.HostsBucket + "." + busyHost}
	for i := range s.cfg.Hosts {
		hosts = append(hosts, "$KV."+names.HostsBucket+"."+hostName(i))
	}
	dispatchers := make([]string, s.cfg.Dispatchers+1) // with the one that heapOfDispatcher has started
	for i := range dispatchers {
		dispatchers[i] = "$KV." + names.DispatchersBucket + "." + dispatcherName(i)
	}
	return s.place.tidy(ctx, func(ctx context.Context, js natsjs.JetStream) error {
		return errors.Join(
			purge(ctx, js, names.JobsStream, lanes...),
			purge(ctx, js, "KV_"+names.WaitingBucket, "$KV."+names.WaitingBucket+".>"),
			purge(ctx, js, "KV_"+names.BlocksBucket, pairs...),
			purge(ctx, js, "KV_"+names.HostsBucket, hosts...),
			purge(ctx, js, "KV_"+names.DispatchersBucket, dispatchers...),
		)
	})
}

// tidy calls clear or another clean-up on a named NATS, also after the stage's context has ended. An embedded NATS is removed as a
// whole.
func (p *place) tidy(ctx context.Context, change func(context.Context, natsjs.JetStream) error) error {
	if p.server != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTime)
	defer cancel()
	nc, err := nats.Connect(p.url)
	if err != nil {
		return fmt.Errorf("what bench stored stays in the NATS at %s: %w", p.url, err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return change(ctx, js)
}

// purge empties the subjects of a stream, if there is one and anything in it.
func purge(ctx context.Context, js natsjs.JetStream, name string, subjects ...string) error {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	for _, subject := range subjects {
		if err := stream.Purge(ctx, natsjs.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("purge %s: %w", subject, err)
		}
	}
	return nil
}
