package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Stores says how full each stream, bucket and object store of the fleet is, by name.
func (q *Queue) Stores(ctx context.Context) ([]StoreCounts, error) {
	var list []StoreCounts
	all := q.js.ListStreams(ctx)
	for info := range all.Info() {
		name := names.PlainName(info.Config.Name)
		if !strings.HasPrefix(name, names.StreamsPrefix) {
			continue
		}
		one := StoreCounts{
			Stream: name, Bytes: int64(info.State.Bytes), Limit: max(info.Config.MaxBytes, 0), Messages: info.State.Msgs, Age: job.Duration(info.Config.MaxAge),
		}
		if first := info.State.FirstTime; info.State.Msgs > 0 && !first.IsZero() {
			one.Since = &first
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b StoreCounts) int { return strings.Compare(a.Stream, b.Stream) })
	return list, wrap(all.Err(), "list the streams")
}

// ConsumerCounts is how far a consumer of dispatchers has come.
type ConsumerCounts struct {
	Consumer string
	Pending  uint64 // messages that it has not delivered yet
	Unacked  int    // messages that it has delivered and that are not acked
}

// Consumers says how far the consumers have come by which dispatchers receive jobs, settle failures and count events. Those that were not
// created yet are left out.
func (q *Queue) Consumers(ctx context.Context) ([]ConsumerCounts, error) {
	var list []ConsumerCounts
	add := func(info *natsjs.ConsumerInfo) {
		list = append(list, ConsumerCounts{Consumer: info.Name, Pending: info.NumPending, Unacked: info.NumAckPending})
	}
	all := q.jobs.ListConsumers(ctx)
	for info := range all.Info() {
		add(info)
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list the consumers of %s: %w", names.JobsStream, err)
	}
	for _, name := range []string{names.SettleConsumer, names.TallyConsumer} {
		consumer, err := q.js.Consumer(ctx, names.EventsStream, name)
		switch {
		case errors.Is(err, natsjs.ErrConsumerNotFound):
		case err != nil:
			return nil, fmt.Errorf("read the consumer %s: %w", name, err)
		default:
			add(consumer.CachedInfo())
		}
	}
	return list, nil
}

// LaneCap is the most unfinished jobs of a lane, as the stream had it when it was read last.
func (q *Queue) LaneCap() int64 { return q.jobs.CachedInfo().Config.MaxMsgsPerSubject }

// LastLetter is the sequence of the newest letter that COMFY_DEAD has ever stored.
func (q *Queue) LastLetter(ctx context.Context) (uint64, error) {
	info, err := q.streamState(ctx, names.DeadStream)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// Waits is how many of the tenant's jobs wait, for all reasons together.
func (t *TenantCounts) Waits() int {
	n := 0
	for _, some := range t.Waiting {
		n += some
	}
	return n
}
