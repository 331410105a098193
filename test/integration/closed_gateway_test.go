package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// visitor sends requests of one tenant to a gateway.
type visitor struct {
	f    *closed
	base string
	key  string
}

// ownGateway starts a gateway with credentials of its own, and gives what NATS refuses it.
func (f *closed) ownGateway(tenants ...string) (base string, refused <-chan error) {
	f.t.Helper()
	violations := make(chan error, 100)
	own := *f.fleet
	own.options = []nats.Option{
		nats.UserCredentials(f.creds(f.folder.Gateway())), nats.CustomInboxPrefix("_INBOX_gateway"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err }),
	}
	own.cfg = queue.Config{ReadOnly: true, NoRemovals: true} // as the command opens it
	keys := map[string]job.Tenant{}
	for _, tenant := range tenants {
		keys[tenant+"-secret"] = job.Tenant(tenant)
	}
	_, kill := own.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		g, err := gateway.New(q, gateway.Config{Listen: "127.0.0.1:0", Keys: keys, Logger: f.logger()})
		if err != nil {
			f.t.Fatal(err)
		}
		base = "http://" + g.Addr()
		return g.Run
	})
	f.stops = append(f.stops, kill)
	return base, violations
}

func (v *visitor) send(method, path, kind string, body io.Reader) (status int, content []byte) {
	v.f.t.Helper()
	r, err := http.NewRequestWithContext(v.f.context(), method, v.base+path, body)
	if err != nil {
		v.f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+v.key)
	r.Header.Set("Content-Type", kind)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		v.f.t.Fatal(err)
	}
	defer response.Body.Close()
	if content, err = io.ReadAll(response.Body); err != nil {
		v.f.t.Fatal(err)
	}
	return response.StatusCode, content
}

// json sends JSON, wants a status and reads the answer, if it is JSON.
func (v *visitor) json(want int, method, path, body string) map[string]any {
	v.f.t.Helper()
	status, content := v.send(method, path, "application/json", strings.NewReader(body))
	if status != want {
		v.f.t.Fatalf("%s %s: %d %.300s", method, path, status, content)
	}
	var got map[string]any
	_ = json.Unmarshal(content, &got) // many answers are lists or empty
	return got
}

// form uploads a file.
func (v *visitor) form(want int, path, field, name string, content []byte, fields ...string) map[string]any {
	v.f.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	part, err := w.CreateFormFile(field, name)
	if err != nil {
		v.f.t.Fatal(err)
	}
	_, _ = part.Write(content)
	_ = w.Close()
	status, answer := v.send(http.MethodPost, path, w.FormDataContentType(), &body)
	if status != want {
		v.f.t.Fatalf("%s: %d %.300s", path, status, answer)
	}
	var got map[string]any
	_ = json.Unmarshal(answer, &got)
	return got
}

// The whole of what a gateway does, with the credentials of one.
func TestAGatewaysCredentialsAreEnoughForItAndForNothingElse(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	base, refused := f.ownGateway("acme", "bolt")
	acme := &visitor{f, base, "acme-secret"}

	f.eventually("the gateway shows the host's nodes", func() bool {
		return acme.json(200, http.MethodGet, "/object_info", "")["SaveImage"] != nil
	})
	acme.form(200, "/upload/image", "image", "in.png", pngOf(t, color.RGBA{0x44, 0x55, 0x66, 255}), "overwrite", "true")
	acme.form(200, "/upload/image", "image", "in.png", pngOf(t, color.RGBA{0x44, 0x55, 0x67, 255}), "overwrite", "true")
	graph := `{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`
	id := "0e9b4b4e-0000-4000-8000-000000000001"
	acme.json(200, http.MethodPost, "/prompt", fmt.Sprintf(`{"prompt":%s,"prompt_id":%q,"client_id":"me","extra_data":{"api_key_comfy_org":"k"}}`, graph, id))
	f.end(receipt("acme", id))
	f.eventually("the history has the prompt", func() bool { return acme.json(200, http.MethodGet, "/history/"+id, "")[id] != nil })
	if shown := acme.json(200, http.MethodGet, "/api/jobs/"+id, ""); shown["status"] != "completed" {
		t.Errorf("%v", shown)
	}
	if status, content := acme.send(http.MethodGet, "/view?filename=x_00001_.png&subfolder="+id, "", nil); status != 200 || len(content) == 0 {
		t.Errorf("the picture: %d %.200s", status, content)
	}
	acme.json(200, http.MethodPost, "/settings", `{"a":1}`)
	acme.json(200, http.MethodPost, "/userdata/workflows%2Fa.json", `{}`)
	acme.json(200, http.MethodGet, "/userdata?dir=workflows", "")
	acme.json(204, http.MethodDelete, "/userdata/workflows%2Fa.json", "")
	acme.json(200, http.MethodGet, "/system_stats", "")
	acme.json(200, http.MethodGet, "/queue", "")
	acme.json(200, http.MethodPost, "/history", `{"delete":["`+id+`"]}`)
	acme.json(200, http.MethodPost, "/history", `{"clear":true}`)

	asset := acme.form(201, "/api/v2/assets", "file", "v2.png", pngOf(t, color.RGBA{0x77, 0x88, 0x99, 255}), "content_type", "image/png", "file_path", "v2.png")
	acme.form(200, "/api/v2/assets", "file", "v2.png", pngOf(t, color.RGBA{0x77, 0x88, 0x99, 255}), "content_type", "image/png", "file_path", "again.png") // one of the two is not kept
	made := acme.json(201, http.MethodPost, "/api/v2/jobs", `{"workflow":`+strings.ReplaceAll(graph, "in.png", "v2.png")+`}`)
	v2, _ := made["id"].(string)
	f.end(receipt("acme", v2))
	acme.json(204, http.MethodDelete, fmt.Sprint("/api/v2/assets/", asset["id"]), "")
	acme.json(200, http.MethodGet, "/api/v2/jobs/"+v2+"/workflow", "")
	acme.json(200, http.MethodGet, "/api/v2/jobs", "")

	later := acme.json(200, http.MethodPost, "/prompt", `{"prompt":`+graph+`,"run_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	cancelled, _ := later["prompt_id"].(string)
	acme.json(200, http.MethodPost, "/queue", `{"delete":["`+cancelled+`"]}`)
	f.end(receipt("acme", cancelled))
	again := acme.json(201, http.MethodPost, "/api/v2/jobs", `{"workflow":`+graph+`}`)
	acme.json(200, http.MethodPost, fmt.Sprint("/api/v2/jobs/", again["id"], "/cancel"), "")

	if bolts := (&visitor{f, base, "bolt-secret"}).json(200, http.MethodGet, "/history", ""); len(bolts) != 0 {
		t.Errorf("bolt sees %v", bolts)
	}
	select {
	case err := <-refused:
		t.Errorf("NATS has refused the gateway what it does: %v", err)
	default:
	}
	nc, attacks := f.as(f.folder.Gateway())
	f.refusesGateway(nc, attacks)
}

// refusesGateway asks NATS for what a gateway does not need.
func (f *closed) refusesGateway(nc *nats.Conn, refused <-chan error) {
	f.t.Helper()
	for _, subject := range []string{
		"comfy.api.cancel", "comfy.api.drain", "comfy.api.tenants", "comfy.tenants.acme.requeue", "comfy.tenants.acme.purge", "comfy.tenants.acme.webhooks.set",
		"comfy.append.jobs.acme.x.completed", "comfy.append.jobs.acme.x.started", "comfy.append.hosts.gpu-1.offline", "comfy.events.jobs.acme.x.completed", "comfy.dead.acme",
		"comfy.hosts.gpu-1.offer", "comfy.hosts.gpu-1.control", "comfy.hosts.gpu-1.state", "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0",
		"$KV.COMFY_HOSTS.gpu-1", "$KV.COMFY_CATALOGS.gpu-1", "$KV.COMFY_GRANTS.gpu-1", "$KV.COMFY_TENANTS.acme", "$KV.COMFY_BLOCKS.x", "$KV.COMFY_SECRETS.prompt", "$KV.COMFY_APIKEYS.acme.x",
		"$O.COMFY_INPUTS.C.x", "$O.COMFY_INPUTS.M.x", "$O.COMFY_CATALOG.C.x",
		"$JS.API.DIRECT.GET.KV_COMFY_SECRETS", "$JS.API.DIRECT.GET.KV_COMFY_SECRETS.$KV.COMFY_SECRETS.prompt", "$JS.API.STREAM.MSG.GET.KV_COMFY_SECRETS",
		"$JS.API.DIRECT.GET.KV_COMFY_APIKEYS.$KV.COMFY_APIKEYS.acme.x", "$JS.API.STREAM.MSG.GET.KV_COMFY_APIKEYS", "$JS.API.DIRECT.GET.COMFY_DEAD", "$JS.API.STREAM.MSG.GET.COMFY_DEAD",
		"$JS.API.CONSUMER.CREATE.KV_COMFY_SECRETS.x.$KV.COMFY_SECRETS.>", "$JS.API.CONSUMER.CREATE.COMFY_JOBS.x.comfy.jobs.acme.5", "$JS.API.CONSUMER.CREATE.COMFY_DEAD.x.comfy.dead.acme",
		"$JS.API.CONSUMER.MSG.NEXT.COMFY_JOBS.dispatch_5", "$JS.API.CONSUMER.MSG.NEXT.COMFY_EVENTS.settle", "$JS.API.CONSUMER.DELETE.COMFY_EVENTS.settle",
		"$JS.API.CONSUMER.CREATE.COMFY_EVENTS.settle.comfy.events.>", "$JS.API.CONSUMER.MSG.NEXT.COMFY_EVENTS.tally",
		"$JS.API.STREAM.PURGE.OBJ_COMFY_OUTPUTS", "$JS.API.STREAM.PURGE.OBJ_COMFY_INPUTS", "$JS.API.STREAM.DELETE.COMFY_JOBS", "$JS.API.STREAM.UPDATE.COMFY_EVENTS",
		"$JS.API.STREAM.MSG.DELETE.COMFY_JOBS", "$JS.API.STREAM.CREATE.mine",
	} {
		if err := nc.Publish(subject, []byte(`{}`)); err != nil {
			f.t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	for _, subject := range []string{">", "comfy.>", "comfy.jobs.*.*", "comfy.hosts.*.offer", "comfy.tenants.acme.why", "_INBOX.>", "_INBOX_dispatcher.>", "_INBOX_operator.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			f.t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
}
