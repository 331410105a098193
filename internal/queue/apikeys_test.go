package queue_test

import (
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The marker of keys that were removed must not stay as long as keys do: it counts as a job's keys.
func TestTheMarkerOfRemovedKeysExpiresSoon(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	must(q.PutAPIKeys(t.Context(), "acme", &jetstream.APIKeys{Job: "one", APIKey: "very-secret"}))
	if keys := must(q.APIKeys(t.Context(), "acme", "one")); string(keys) != `{"api_key_comfy_org":"very-secret"}` {
		t.Errorf("the keys are %s", keys)
	}
	must(0, q.DropAPIKeys(t.Context(), "acme", "one"))
	if keys := must(q.APIKeys(t.Context(), "acme", "one")); keys != nil {
		t.Errorf("keys that were removed are %s", keys)
	}
	raw := must(must(must(natsjs.New(nc)).Stream(t.Context(), "KV_COMFY_APIKEYS")).GetLastMsgForSubject(t.Context(), "$KV.COMFY_APIKEYS.acme.one"))
	if ttl := raw.Header.Get("Nats-TTL"); ttl != "10m0s" || len(raw.Data) != 0 {
		t.Errorf("the marker lives for %q and has %q", ttl, raw.Data)
	}
}
