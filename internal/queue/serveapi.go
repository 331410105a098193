package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	apiTimeout  = 10 * time.Second
	apiAtOnce   = 64                         // calls that a dispatcher works on at a time; more wait their turn
	apiMost     = 1024                       // calls that wait or are worked on; more are refused
	callTimeout = apiTimeout + 3*time.Second // how long Call waits for an answer

	lastCalls = 2 * time.Second // how long a service that stops waits for requests that NATS has sent already
)

// API has the calls that a dispatcher answers.
type API struct {
	Version     string                    // of the program, semantic
	Calls       map[string]Endpoint       // comfy.api.<name>: the operator's
	TenantCalls map[string]TenantEndpoint // comfy.tenants.<tenant>.<name>
}

// Endpoint answers one call of the operator's API: request JSON in, an answer to encode out.
type Endpoint func(ctx context.Context, request []byte) (any, error)

// ServeAPI answers calls until ctx ends, then those under way, and returns. NATS sends each call to one of all dispatchers that
// serve. At most 64 calls of one tenant are under way; further ones are refused at once with TooMany.
func (q *Queue) ServeAPI(ctx context.Context, api API) error {
	service, err := micro.AddService(q.nc, micro.Config{
		Name: names.APIName, Version: api.Version, Description: "comfyherd dispatcher: jobs, hosts, blocks, tenants",
	})
	if err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	d := &callServer{nc: q.nc, now: q.Now, taken: map[string]int{}}
	err = errors.Join(d.serveOperators(ctx, service, api.Calls), d.serveTenants(ctx, service, api.TenantCalls))
	if err == nil {
		<-ctx.Done()
		err = ctx.Err()
	}
	d.shutNow()
	_ = service.Stop() // the connection may be closed already
	if q.nc.IsConnected() {
		_ = q.nc.FlushTimeout(lastCalls) // after it, all requests that NATS has sent are received and refused
	}
	d.over.Wait()
	return err
}

// AnswerBytes is the most bytes of an answer's rows: half of NATS' max_payload.
func (q *Queue) AnswerBytes() int { return int(q.nc.MaxPayload() / 2) }

// serveOperators adds the operator's calls to the service.
func (d *callServer) serveOperators(ctx context.Context, service micro.Service, endpoints map[string]Endpoint) error {
	atOnce := make(chan struct{}, apiAtOnce)
	for name, endpoint := range endpoints {
		handler := micro.HandlerFunc(func(r micro.Request) {
			c := callOf(r)
			d.take(ctx, c, "", apiMost, apiTimeout, func(ctx context.Context) (*nats.Msg, error) {
				select {
				case atOnce <- struct{}{}:
					defer func() { <-atOnce }()
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				answer, err := endpoint(ctx, c.body)
				if err != nil {
					return nil, err
				}
				body, err := json.Marshal(answer)
				return &nats.Msg{Data: body}, wrap(err, "encode the answer")
			})
		})
		if err := service.AddEndpoint(strings.ReplaceAll(name, ".", "-"), handler, micro.WithEndpointSubject(names.APIPrefix+name)); err != nil {
			return fmt.Errorf("serve API call %s: %w", name, err)
		}
	}
	return nil
}

// Call makes a call of the operator's API, comfy.api.<name>, with a request and an answer in JSON, and waits at most 13 s. When no
// dispatcher is running the error says so; a refusal is a jetstream.BadRequest or another of those types.
func (q *Queue) Call(ctx context.Context, name string, request, answer any) error {
	return q.call(ctx, names.APIPrefix+name, callTimeout, request, answer)
}

// CallOf makes a call of a tenant, comfy.tenants.<tenant>.<name>, as Call does.
func (q *Queue) CallOf(ctx context.Context, tenant job.Tenant, name string, request, answer any) error {
	return q.call(ctx, names.TenantPrefix+string(tenant)+"."+name, jetstream.CallTime+lastCalls, request, answer)
}

func (q *Queue) call(ctx context.Context, subject string, timeout time.Duration, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", subject, err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := jetstream.Ask(ctx, q.nc, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return err
	}
	return wrap(json.Unmarshal(msg.Data, answer), "decode answer to %s", subject)
}

// AllHosts reads all pages of the call hosts.
func (q *Queue) AllHosts(ctx context.Context) ([]HostInfo, error) {
	all := []HostInfo{}
	for request := (HostsRequest{}); ; {
		var page HostsAnswer
		if err := q.Call(ctx, "hosts", request, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Hosts...)
		if request.After = page.Next; page.Next == "" {
			return all, nil
		}
	}
}
