package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// HostEvent is what is stored on comfy.events.hosts.<host>.<kind> when a host's state changes.
type HostEvent struct {
	Host   string        `json:"host"`
	State  HostEventKind `json:"state"`
	Reason string        `json:"reason,omitempty"`
	Time   time.Time     `json:"time"`
}

// HostEventKind is the last token of a host event's subject.
type HostEventKind string

const (
	HostOnline    HostEventKind = "online"
	HostOffline   HostEventKind = "offline"
	HostDraining  HostEventKind = "draining"
	HostUnhealthy HostEventKind = "unhealthy"
	HostRecovered HostEventKind = "recovered" // online again after it was unhealthy
)

// same reports whether a host is in the same state after both kinds.
func (k HostEventKind) same(other HostEventKind) bool {
	return k == other || k == HostOnline && other == HostRecovered || k == HostRecovered && other == HostOnline
}

// AnnounceHost appends an event that a host is in a state now, unless its last event says the same. Of several callers that announce
// the same state at once exactly one appends it.
func (q *Queue) AnnounceHost(ctx context.Context, host string, kind HostEventKind, reason string) error {
	all := names.HostEventsPrefix + host + ".*"
	return RetryConflict(ctx, fmt.Sprintf("announce host %s %s", host, kind), func() (bool, error) {
		last, sequence, err := q.lastHostEvent(ctx, all)
		if err != nil || sequence != 0 && last.same(kind) {
			return err == nil, err
		}
		e := HostEvent{Host: host, State: kind, Reason: reason, Time: q.Now().UTC()}
		msg, err := e.message(sequence)
		if err != nil {
			return false, err
		}
		_, err = q.js.PublishMsg(ctx, msg, natsjs.WithExpectLastSequenceForSubject(sequence, all))
		if conflict(err) {
			return false, nil
		}
		return err == nil, wrap(err, "announce host %s %s", host, kind)
	})
}

// HostStates gives the kind of the last event of every host that has one, by name, also of hosts that are gone. Events are removed
// after EventsAge.
func (q *Queue) HostStates(ctx context.Context) (map[string]HostEventKind, error) {
	info, err := q.events.Info(ctx, natsjs.WithSubjectFilter(names.HostEventsPrefix+">"))
	if err != nil {
		return nil, fmt.Errorf("list events of hosts: %w", err)
	}
	states := map[string]HostEventKind{}
	for subject := range info.State.Subjects {
		host, _, ok := strings.Cut(strings.TrimPrefix(subject, names.HostEventsPrefix), ".")
		if _, known := states[host]; known || !ok {
			continue
		}
		kind, sequence, err := q.lastHostEvent(ctx, names.HostEventsPrefix+host+".*")
		if err != nil {
			return nil, err
		}
		if sequence != 0 {
			states[host] = kind
		}
	}
	return states, nil
}

func (q *Queue) lastHostEvent(ctx context.Context, subject string) (HostEventKind, uint64, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("read last event of %s: %w", subject, err)
	}
	return HostEventKind(raw.Subject[strings.LastIndexByte(raw.Subject, '.')+1:]), raw.Sequence, nil
}

func (e *HostEvent) message(last uint64) (*nats.Msg, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event of host %s: %w", e.Host, err)
	}
	return &nats.Msg{Subject: names.AppendSubject(names.HostEventsPrefix + e.Host + "." + string(e.State)), Data: body, Header: nats.Header{
		"ce-specversion":        {"1.0"},
		"ce-id":                 {e.Host + "-" + strconv.FormatUint(last, 10)},
		"ce-source":             {"agent/" + e.Host},
		"ce-type":               {"comfy.host." + string(e.State)},
		"ce-subject":            {e.Host},
		"ce-time":               {e.Time.Format(time.RFC3339Nano)},
		names.ContentTypeHeader: {"application/json"},
	}}, nil
}
