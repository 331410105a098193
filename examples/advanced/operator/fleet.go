// Package operator watches a fleet and acts on it, as a program of an operator's would: it uses the package jetstream, NATS and
// what docs/contract.md says, and nothing else of comfyherd.
//
// Fleet makes the operators' calls and follows events. Watcher raises alerts about blocks, dead letters and slow lanes. Policy is a
// failover policy of its own on top of the fleet's: it drains a host on which several workflows fail, and keeps workflows away from
// hosts that are too small for them.
package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Fleet is an operator's access. It needs an operator's credentials in a closed fleet.
type Fleet struct {
	nc *nats.Conn
	by string // the name that is recorded with every change
}

// New makes an operator's access on a connection.
func New(nc *nats.Conn, by string) *Fleet { return &Fleet{nc: nc, by: by} }

// call asks the dispatchers for comfy.api.<name>. The answer may be nil.
func (f *Fleet) call(ctx context.Context, name string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the call %s: %w", name, err)
	}
	reply, err := jetstream.Ask(ctx, f.nc, &nats.Msg{Subject: "comfy.api." + name, Data: body})
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", name, err)
	}
	return nil
}

// Weigh sets the weight of a tenant: its part of the hosts' time beside those of the others.
func (f *Fleet) Weigh(ctx context.Context, tenant jetstream.Tenant, weight float64) error {
	return f.call(ctx, "tenants", map[string]any{"tenant": tenant, "weight": weight, "by": f.by}, nil)
}

// Drain has a host finish what it runs and take nothing new; Resume ends that.
func (f *Fleet) Drain(ctx context.Context, host string) error { return f.drain(ctx, host, false) }

// Resume has a drained host take jobs again.
func (f *Fleet) Resume(ctx context.Context, host string) error { return f.drain(ctx, host, true) }

func (f *Fleet) drain(ctx context.Context, host string, resume bool) error {
	var answer struct {
		Count int `json:"count"`
	}
	err := f.call(ctx, "drain", map[string]any{"host": host, "resume": resume, "by": f.by}, &answer)
	if err == nil && answer.Count == 0 {
		err = fmt.Errorf("the agent of %s has not done it", host)
	}
	return err
}

// Exclude replaces the rule of a workflow by one that keeps it away from hosts.
func (f *Fleet) Exclude(ctx context.Context, hash jetstream.Hash, hosts []string) error {
	return f.call(ctx, "affinity", map[string]any{"hash": hash, "exclude": hosts, "by": f.by}, nil)
}

// Lanes are the lanes in which jobs wait or run, at most 500.
func (f *Fleet) Lanes(ctx context.Context) ([]jetstream.LaneStat, error) {
	var answer jetstream.QueueAnswer
	err := f.call(ctx, "queue", struct{}{}, &answer)
	return answer.Lanes, err
}

// Event is any event of the fleet, with the fields that an operator looks at.
type Event struct {
	Area string `json:"-"` // jobs, blocks, hosts or operator
	What string `json:"-"` // last part of the subject: completed, blocked, online and so on

	Tenant  jetstream.Tenant `json:"tenant"`
	Job     jetstream.ID     `json:"job"`
	Host    string           `json:"host"`
	Hash    jetstream.Hash   `json:"hash"`
	Kind    string           `json:"kind"` // of a failure
	Reason  string           `json:"reason"`
	Message string           `json:"message"`
	Until   time.Time        `json:"until"`
}

// Follow calls tell for each event that is stored from now on, one after the other, until ctx ends.
func (f *Fleet) Follow(ctx context.Context, ready func(), tell func(*Event)) error {
	messages := make(chan *nats.Msg, 4096)
	sub, err := f.nc.ChanSubscribe("comfy.events.>", messages)
	if err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	if err := f.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	ready()
	for {
		select {
		case msg := <-messages:
			if e, ok := eventOf(msg); ok {
				tell(e)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// eventOf reads an event; false when it is of no form that is known here.
func eventOf(msg *nats.Msg) (*Event, bool) {
	parts := strings.Split(msg.Subject, ".")
	if len(parts) < 4 {
		return nil, false
	}
	e := &Event{Area: parts[2], What: parts[len(parts)-1]}
	return e, json.Unmarshal(msg.Data, e) == nil
}
