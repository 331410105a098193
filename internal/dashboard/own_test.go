package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// done stores that a job was completed with a small picture.
func (s *site) done(tenant job.Tenant, outputs ...job.Output) uint64 {
	s.t.Helper()
	e := job.Event{EventKind: job.Completed, Job: "pictured", Tenant: tenant, Host: "gpu-1", Attempt: 1, Time: time.Now(), Outputs: outputs}
	return must(s.q.Append(s.t.Context(), &e, 0, "test", ""))
}

func TestSmallPicturesAreThoseOfTheViewersJobs(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{Keys: must(dashboard.ParseKeys("act:operators-word,tenant/thumbs-a:tenants-word"))})
	own := s.done("thumbs-a", job.Output{Node: "9", Filename: "t.png", Type: "temp", Object: "thumbs-a/pictured/9/t.png", Thumb: "thumbs-a/pictured/9/temp.jpg"},
		job.Output{Node: "9", Filename: "b.txt", Type: "output", Object: "thumbs-a/pictured/9/b.txt", ContentType: "text/plain", Size: 5},
		job.Output{Node: "9", Filename: "a.png", Type: "output", Object: "thumbs-a/pictured/9/a.png", Thumb: "thumbs-a/pictured/9/a.jpg"})
	small := s.done("thumbs-b", job.Output{Node: "9", Filename: "s.png", Type: "output", Object: "thumbs-b/pictured/9/s.png", ContentType: "image/png", Size: 900})
	request := fmt.Sprintf(`{"sequences":[%d,%d,99999999]}`, own, small)
	for _, c := range []struct{ secret, want string }{
		{"operators-word", fmt.Sprintf(`{"thumbs":{"%d":"thumbs-a/pictured/9/a.jpg","%d":"thumbs-b/pictured/9/s.png"}}`, own, small)},
		{"tenants-word", fmt.Sprintf(`{"thumbs":{"%d":"thumbs-a/pictured/9/a.jpg"}}`, own)},
	} {
		for range 2 { // read, and known
			if got := s.ask(http.MethodPost, "/api/v1/thumbs", request, bearer(c.secret)); got.code != http.StatusOK || got.body != c.want {
				t.Errorf("%s is given %d %s, want %s", c.secret, got.code, got.body, c.want)
			}
		}
	}
	if got := s.ask(http.MethodPost, "/api/v1/thumbs", `{"sequences":["1"]}`, bearer("tenants-word")); got.code != http.StatusBadRequest {
		t.Errorf("no numbers: %d %s", got.code, got.body)
	}
	for _, call := range []string{"nats", "capability", "host.events"} {
		if got := s.ask(http.MethodPost, "/api/v1/"+call, `{"host":"gpu-1"}`, bearer("tenants-word")); got.code != http.StatusNotFound {
			t.Errorf("a tenant calls %s: %d %s", call, got.code, got.body)
		}
	}
}

func TestAHostTellsWhatItCanRunAndWhatHappenedToIt(t *testing.T) {
	t.Parallel()
	s := serve(t, dashboard.Config{})
	ctx := t.Context()
	catalog := queue.Catalog{Host: "own-1", Blobs: map[string]string{}, Time: time.Now().UTC()}
	for route, body := range map[string]string{
		"object_info": `{"KSampler":{"input":{}},"FaceDetailer":{"input":{"required":{}}}}`, "models/checkpoints": `["face.safetensors","base.safetensors",7]`, "models": `["checkpoints"]`,
	} {
		catalog.Blobs[route] = must(s.q.StoreCatalogBlob(ctx, []byte(body)))
	}
	must(0, s.q.PutCatalog(ctx, "own-1", catalog))
	var c struct {
		Known           bool
		Classes, Models int
		Found           []struct{ Kind, Name string }
	}
	got := s.ask(http.MethodPost, "/api/v1/capability", `{"host":"own-1","find":"FACE"}`, nil)
	if err := json.Unmarshal([]byte(got.body), &c); err != nil || !c.Known || c.Classes != 2 || c.Models != 2 || fmt.Sprint(c.Found) != "[{checkpoints face.safetensors} {class FaceDetailer}]" {
		t.Errorf("%d %s (%v)", got.code, got.body, err)
	}
	if got := s.ask(http.MethodPost, "/api/v1/capability", `{"host":"own-2"}`, nil); !strings.Contains(got.body, `"known":false`) {
		t.Errorf("a host without a catalogue: %s", got.body)
	}
	must(0, s.q.AnnounceHost(ctx, "own-1", queue.HostOffline, "gone"))
	events := s.ask(http.MethodPost, "/api/v1/host.events", `{"host":"own-1"}`, nil)
	if events.code != http.StatusOK || strings.Count(events.body, `"of":"hosts"`) != 1 || !strings.Contains(events.body, `"reason":"gone"`) {
		t.Errorf("its events are %d %s", events.code, events.body)
	}
	if got := s.ask(http.MethodPost, "/api/v1/host.events", `{"host":"own-1.*"}`, nil); got.code != http.StatusBadRequest {
		t.Errorf("a name with a wildcard: %d", got.code)
	}
	if got := s.ask(http.MethodPost, "/api/v1/nats", `{}`, nil); !strings.Contains(got.body, `"round_trip"`) || !strings.Contains(got.body, `"consumers":[`) {
		t.Errorf("the connection: %d %s", got.code, got.body)
	}
	for path, want := range map[string]string{"/icon/7": ">7</text>", "/icon/100": ">99+</text>", "/icon/0": "404", "/icon/x": "404"} {
		if got := s.ask(http.MethodGet, path, "", nil); !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
}
