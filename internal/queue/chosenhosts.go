package queue

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// newsRoom is how many states of chosen hosts wait to be read. Further ones are dropped; the next presence repeats them.
const newsRoom = 8192

// FollowChosen calls tell for every valid broadcast state of chosen hosts until ctx ends: of those of the list that chosen gave last.
func (q *Queue) FollowChosen(ctx context.Context, chosen <-chan []string, tell func(HostState)) error {
	news := make(chan *nats.Msg, newsRoom)
	subs := map[string]*nats.Subscription{}
	defer func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // the connection may be closed already
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case hosts := <-chosen:
			if err := q.subscribeTo(hosts, subs, news); err != nil {
				return err
			}
		case msg := <-news:
			tellState(msg, tell)
		}
	}
}

// subscribeTo subscribes to the states of hosts, and ends the subscriptions to others.
func (q *Queue) subscribeTo(hosts []string, subs map[string]*nats.Subscription, news chan *nats.Msg) error {
	wanted := make(map[string]bool, len(hosts))
	for _, host := range hosts {
		wanted[host] = true
		if subs[host] != nil {
			continue
		}
		sub, err := q.nc.ChanSubscribe(names.StateSubject(host), news)
		if err != nil {
			return fmt.Errorf("subscribe to the states of host %s: %w", host, err)
		}
		subs[host] = sub
	}
	for host, sub := range subs {
		if !wanted[host] {
			_ = sub.Unsubscribe() // the connection may be closed already
			delete(subs, host)
		}
	}
	return nil
}

// FollowHostNames calls tell with the name of each host whose agent appends an event of the host's state, as each does when it starts,
// until ctx ends.
func (q *Queue) FollowHostNames(ctx context.Context, tell func(host string)) error {
	return q.serve(ctx, names.HostEventsPrefix+"*.*", func(msg *nats.Msg) {
		host, kind, _ := strings.Cut(strings.TrimPrefix(msg.Subject, names.HostEventsPrefix), ".")
		if job.ValidHost(host) && HostEventKind(kind) != HostOffline {
			tell(host)
		}
	})
}

// HostNames reads the names of all hosts that have a presence, and of some whose presence has ended lately.
func (q *Queue) HostNames(ctx context.Context) ([]string, error) {
	prefix := kvSubject(q.hosts, "")
	var info *natsjs.StreamInfo
	stream, err := q.js.Stream(ctx, names.BucketStream(names.HostsBucket)) // one of its own, since Info changes what others read
	if err == nil {
		info, err = stream.Info(ctx, natsjs.WithSubjectFilter(prefix+"*"))
	}
	if err != nil {
		return nil, fmt.Errorf("list the hosts of bucket %s: %w", names.HostsBucket, err)
	}
	hosts := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		if host := strings.TrimPrefix(subject, prefix); job.ValidHost(host) {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}
