package queue

import (
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// TestType is the type of a delivery that was asked for to test a webhook.
const TestType = "webhook.test"

// webhookType is a type of events as receivers know it, such as job.completed.
type webhookType struct {
	class, kind string
}

func (t webhookType) String() string { return t.class + "." + t.kind }

func (t webhookType) ofJob() bool { return t.class == jobClass }

const (
	jobClass   = "job"
	blockClass = "block"
	hostClass  = "host"
)

// subject matches the events of this type that an owner may see.
func (t webhookType) subject(owner job.Tenant) string {
	switch t.class {
	case jobClass:
		return names.EventSubject(owner, "*", job.EventKind(t.kind)) // the name of the fleet matches all tenants
	case blockClass:
		return names.BlockEventsPrefix + "*.*." + t.kind
	default:
		return names.HostEventsPrefix + "*." + t.kind
	}
}

func webhookTypes() []webhookType {
	var all []webhookType
	for _, kind := range job.EventKinds() {
		all = append(all, webhookType{jobClass, string(kind)})
	}
	all = append(all, webhookType{blockClass, blockedKind}, webhookType{blockClass, unblockedKind})
	for _, state := range []HostEventKind{HostOnline, HostOffline, HostDraining, HostUnhealthy, HostRecovered} {
		all = append(all, webhookType{hostClass, string(state)})
	}
	return all
}

// matchingTypes are the types that a pattern of an owner's webhook stands for: one type, all of a class as job.*, or * for all. A tenant
// has events of its jobs only.
func matchingTypes(owner job.Tenant, pattern string) []webhookType {
	return slices.DeleteFunc(webhookTypes(), func(t webhookType) bool {
		fits := pattern == "*" || pattern == t.class+".*" || pattern == t.String()
		return !fits || owner != names.Fleet && !t.ofJob()
	})
}

func typesOf(owner job.Tenant) []string {
	var all []string
	for _, t := range matchingTypes(owner, "*") {
		all = append(all, t.String())
	}
	return all
}

// EventType is the type of a stored event, such as job.completed, and the tenant and job that it is about; empty for one of a block or
// a host. False when the subject is no such event's.
func EventType(subject string) (typ string, tenant job.Tenant, id job.ID, ok bool) {
	kind := subject[strings.LastIndexByte(subject, '.')+1:]
	class := hostClass
	switch {
	case strings.HasPrefix(subject, names.JobEventsPrefix):
		class = jobClass
		tenant, id, _, ok = names.JobOfEvent(subject)
	case strings.HasPrefix(subject, names.BlockEventsPrefix):
		class, ok = blockClass, true
	case strings.HasPrefix(subject, names.HostEventsPrefix):
		ok = true
	}
	t := webhookType{class, kind}
	return t.String(), tenant, id, ok && slices.Contains(webhookTypes(), t)
}

// Wants reports whether a type of events is delivered to the webhook.
func (w *WebhookSettings) Wants(typ string) bool {
	class, _, _ := strings.Cut(typ, ".")
	return slices.ContainsFunc(w.Events, func(p string) bool { return p == "*" || p == typ || p == class+".*" })
}

// Sees reports whether events of a type may be delivered to the webhook: to one of a tenant only those of its jobs.
func (w *WebhookSettings) Sees(typ string, tenant job.Tenant) bool {
	return w.Owner == names.Fleet || tenant == w.Owner && strings.HasPrefix(typ, jobClass+".")
}

// Receives reports whether an event that was just stored is delivered to the webhook. named is the webhook that its job names.
func (w *WebhookSettings) Receives(typ string, tenant job.Tenant, named string, stored time.Time) bool {
	const clocksDiffer = time.Second
	return w.Disabled == nil && w.Sees(typ, tenant) && w.Wants(typ) && (!w.Named || named == w.Name) && !stored.Before(w.Created.Add(-clocksDiffer))
}

// NamedWebhook is the webhook that the job of an event names; empty when it names none.
func NamedWebhook(body []byte) string { return fieldOf(body, "webhook") }

// mostFilters is how many subjects a consumer of events filters by; with more than that it receives the events of all tenants.
const mostFilters = 256

// webhookFilters are the subjects of all events that webhooks want. No two of them match the same event.
func webhookFilters(all []WebhookSettings) []string {
	wanted := map[webhookType]map[job.Tenant]bool{}
	for i := range all {
		if all[i].Disabled != nil {
			continue
		}
		for _, pattern := range all[i].Events {
			for _, t := range matchingTypes(all[i].Owner, pattern) {
				if wanted[t] == nil {
					wanted[t] = map[job.Tenant]bool{}
				}
				wanted[t][all[i].Owner] = true
			}
		}
	}
	count := 0
	for _, owners := range wanted {
		count += len(owners)
	}
	var filters []string
	for t, owners := range wanted {
		if owners[names.Fleet] || count > mostFilters {
			filters = append(filters, t.subject(names.Fleet))
			continue
		}
		for owner := range owners {
			filters = append(filters, t.subject(owner))
		}
	}
	slices.Sort(filters)
	return filters
}
