package gateway_test

import (
	"slices"
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

func TestEveryRouteIsCountedUnderOneOfTheClosedSet(t *testing.T) {
	t.Parallel()
	used := gateway.CountedRoutes()
	for pattern, name := range used {
		if !slices.Contains(gateway.Routes(), name) {
			t.Errorf("%s is counted as %s, which is none of the set", pattern, name)
		}
	}
	for _, name := range gateway.Routes() {
		found := name == "none"
		for _, other := range used {
			found = found || other == name
		}
		if !found {
			t.Errorf("nothing is counted as %s", name)
		}
	}
	for pattern, want := range map[string]string{
		"GET /v2/userdata": "userdata", "POST /api/jobs/cancel": "jobs", "GET /experiment/models/{folder}": "models", "POST jobs/{id}/cancel": "v2_jobs",
		"GET jobs/{id}/events": "v2_events", "GET assets/{id}/{part}": "v2_content", "POST /interrupt": "queue", "GET /": "page",
	} {
		if used[pattern] != want {
			t.Errorf("%s is counted as %s, want %s", pattern, used[pattern], want)
		}
	}
}
