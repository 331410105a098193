package bench

import (
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// holders have the credentials of a closed fleet. In an open one they are nil, and all programs connect without.
type holders struct {
	server      *natsserver.Access
	dispatchers string            // file of credentials
	agents      map[string]string // by host
	tenants     []string          // in the order of the load
}

// makeHolders makes an access folder with credentials for dispatchers, hosts and tenants.
func makeHolders(cfg *Config, dir string) (*holders, error) {
	folder, err := natsserver.InitAccess(dir)
	if err != nil {
		return nil, err
	}
	k := &holders{agents: map[string]string{}}
	if k.dispatchers, err = folder.Dispatcher(); err != nil {
		return nil, err
	}
	if err := folder.Batch(func(folder *natsserver.AccessFolder) error { return k.make(folder, cfg) }); err != nil {
		return nil, err
	}
	k.server, err = folder.Access()
	return k, err
}

// make makes the accounts of tenants and hosts.
func (k *holders) make(folder *natsserver.AccessFolder, cfg *Config) error {
	for i := range cfg.Tenants {
		creds, err := folder.Tenant(tenantName(i), natsserver.TenantSettings{})
		if err != nil {
			return err
		}
		k.tenants = append(k.tenants, creds)
	}
	hosts := []string{busyHost}
	for i := range cfg.Hosts {
		hosts = append(hosts, hostName(i))
	}
	for _, host := range hosts {
		creds, err := folder.Agent(host, natsserver.AgentSettings{})
		if err != nil {
			return err
		}
		k.agents[host] = creds
	}
	return nil
}

func (k *holders) dispatcher() string {
	if k == nil {
		return ""
	}
	return k.dispatchers
}

// asDispatcher are the options of a bare connection that may make streams.
func (k *holders) asDispatcher() []nats.Option {
	if k == nil {
		return nil
	}
	return []nats.Option{nats.UserCredentials(k.dispatchers), nats.CustomInboxPrefix("_INBOX_dispatcher")}
}

// agent gives the credentials of a host's agent, and how it opens the queue with them.
func (k *holders) agent(host string) (creds string, cfg queue.Config) {
	if k == nil {
		return "", queue.Config{}
	}
	return k.agents[host], queue.Config{APIPrefix: natsserver.JetStreamPrefix, NoConsumers: true}
}

// publishers are one for each tenant, or the one that all tenants share in an open fleet.
func (s *stage) publishers(all natsjs.JetStream) ([]natsjs.JetStream, error) {
	if s.place.holders == nil {
		return []natsjs.JetStream{all}, nil
	}
	publishers := make([]natsjs.JetStream, 0, len(s.place.holders.tenants))
	for i, creds := range s.place.holders.tenants {
		nc, err := s.place.bare(nats.UserCredentials(creds))
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenantName(i), err)
		}
		js, err := s.place.publisher(nc)
		if err != nil {
			return nil, err
		}
		publishers = append(publishers, js)
	}
	return publishers, nil
}
