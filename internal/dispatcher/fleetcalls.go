package dispatcher

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func (d *Dispatcher) apiDispatchers(_ context.Context, _ queue.DispatchersRequest) (answer queue.DispatchersAnswer, err error) {
	answer = queue.DispatchersAnswer{Dispatchers: []queue.DispatcherState{}, Answered: d.cfg.Name}
	names, states := d.answers.dispatchers.some("", "", rowsMost)
	for _, name := range names {
		answer.Dispatchers = append(answer.Dispatchers, states[name])
	}
	return answer, nil
}

// apiSettings gives what this dispatcher was started with, and the limits of the streams, which are the same for all dispatchers.
func (d *Dispatcher) apiSettings(ctx context.Context, _ queue.SettingsRequest) (answer queue.SettingsAnswer, err error) {
	stores, err := d.answers.stores.get(ctx, d.q.Stores)
	if err != nil {
		return answer, err
	}
	answer = queue.SettingsAnswer{Dispatcher: d.cfg.Name, Settings: append([]queue.Setting{}, d.cfg.Settings...)}
	add := func(name string, value any) {
		answer.Settings = append(answer.Settings, queue.Setting{Name: name, Value: fmt.Sprint(value), From: "NATS"})
	}
	add("ack wait", d.q.AckWait())
	add("age of events", d.q.EventsAge())
	add("age of presences", d.q.PresenceTTL())
	for i := range stores {
		if s := &stores[i]; s.Limit > 0 {
			add(s.Stream+" bytes", s.Limit)
		}
	}
	return answer, nil
}
