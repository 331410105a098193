package names

import (
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Fleet is written in calls and answers in place of the tenant of a webhook that belongs to the fleet. In subjects and keys, where an
// asterisk has a meaning of its own, an equals sign stands for it; no tenant has either as its name.
const (
	Fleet      job.Tenant = "*"
	fleetToken string     = "="
)

// NoJob is the part of a try's subject that names the job, when the delivered event is not a job's.
const NoJob job.ID = "-"

// AllDeliveries are the subjects of DeliveriesStream.
const AllDeliveries = "comfy.webhooks.>"

func ownerToken(owner job.Tenant) string {
	if owner == Fleet {
		return fleetToken
	}
	return string(owner)
}

func ownerOf(token string) job.Tenant {
	if token == fleetToken {
		return Fleet
	}
	return job.Tenant(token)
}

// ValidOwner reports whether webhooks may belong to an owner: a tenant or Fleet.
func ValidOwner(owner job.Tenant) bool { return owner == Fleet || owner.Valid() }

// WebhookKey is the key of a webhook: <tenant>.<webhook>.
func WebhookKey(owner job.Tenant, name string) string { return ownerToken(owner) + "." + name }

// SplitWebhook splits a key that WebhookKey has made; false when it has not that form.
func SplitWebhook(key string) (owner job.Tenant, name string, ok bool) {
	token, name, _ := strings.Cut(key, ".")
	owner = ownerOf(token)
	return owner, name, ValidOwner(owner) && job.ValidHost(name)
}

// DeliverySubject is where the undelivered events of a webhook are stored: comfy.webhooks.<tenant>.<webhook>.
func DeliverySubject(owner job.Tenant, name string) string {
	return "comfy.webhooks." + ownerToken(owner) + "." + name
}

// WebhookOfDelivery gives the webhook of a subject that DeliverySubject has made.
func WebhookOfDelivery(subject string) (owner job.Tenant, name string, ok bool) {
	return SplitWebhook(strings.TrimPrefix(subject, "comfy.webhooks."))
}

// TestEvent stands for the sequence of an event in the subject of a try that delivers a test.
const TestEvent = "test"

// TrySubject is where a try is stored: comfy.events.webhooks.<tenant>.<webhook>.<job>.<sequence>.<outcome>, with the sequence of the
// delivered event, or TestEvent. An empty name, job, event or outcome matches any.
func TrySubject(owner job.Tenant, name string, id job.ID, event, outcome string) string {
	return WebhookEventsPrefix + ownerToken(owner) + "." + orAny(name) + "." + orAny(string(id)) + "." + orAny(event) + "." + orAny(outcome)
}

func orAny(token string) string {
	if token == "" {
		return "*"
	}
	return token
}

// WebhookOfTry gives the webhook of a subject that TrySubject has made.
func WebhookOfTry(subject string) (owner job.Tenant, name string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(subject, WebhookEventsPrefix), ".")
	if len(parts) != 5 {
		return "", "", false
	}
	return SplitWebhook(parts[0] + "." + parts[1])
}
