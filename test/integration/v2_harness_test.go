package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// v2 calls the Comfy API v2 of a gateway with one key, and compares every answer with the API's own document.
type v2 struct {
	f        *fleet
	t        *testing.T
	base     string
	key      string
	document *openapi3.T
	router   routers.Router
}

// gateway starts a gateway with a key for each tenant, "<tenant>-secret", and gives its address.
func (f *fleet) gateway(tenants ...string) (base string) {
	f.t.Helper()
	keys := map[string]job.Tenant{}
	for _, tenant := range tenants {
		keys[tenant+"-secret"] = job.Tenant(tenant)
	}
	f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		g, err := gateway.New(q, gateway.Config{Listen: "127.0.0.1:0", Keys: keys, Logger: f.logger()})
		if err != nil {
			f.t.Fatal(err)
		}
		base = "http://" + g.Addr()
		return g.Run
	})
	return base
}

func (f *fleet) v2(base, tenant string) *v2 {
	f.t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(gateway.Document)
	if err != nil {
		f.t.Fatal(err)
	}
	document.Servers = openapi3.Servers{{URL: base}}
	router, err := legacy.NewRouter(document)
	if err != nil {
		f.t.Fatal(err)
	}
	return &v2{f: f, t: f.t, base: base, key: tenant + "-secret", document: document, router: router}
}

// in is the client for a subtest.
func (c *v2) in(t *testing.T) *v2 {
	t.Helper()
	inside := *c
	inside.t = t
	return &inside
}

// answer is an answer of the API.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// call sends a request and compares the answer with the document. body is sent as it is when it is a string or bytes, else as JSON.
func (c *v2) call(method, path string, body any, header ...string) answer {
	c.t.Helper()
	r := c.request(method, path, body, header...)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{t: c.t, status: response.StatusCode, header: response.Header, body: content}
	c.conforms(r, &a)
	return a
}

func (c *v2) request(method, path string, body any, header ...string) *http.Request {
	c.t.Helper()
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case []byte:
		content = bytes.NewReader(body)
	case string:
		content = strings.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	if !strings.HasPrefix(path, "http") {
		path = c.base + path
	}
	r, err := http.NewRequestWithContext(c.f.context(), method, path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// notInDocument are statuses that every HTTP server may answer and that the document does not list.
var notInDocument = []int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusNotModified}

// conforms compares an answer with the document. Contents of assets have the type of the asset, which the document calls
// application/octet-stream.
func (c *v2) conforms(r *http.Request, a *answer) {
	c.t.Helper()
	route, params, err := c.router.FindRoute(r)
	list := r.Method == http.MethodGet && r.URL.Path == "/api/v2/jobs" // which the router takes for a job without an id
	if err != nil || list || slices.Contains(notInDocument, a.status) {
		if a.status >= 400 {
			c.shape("ErrorEnvelope", a.body)
		}
		return
	}
	header := a.header.Clone()
	if strings.HasSuffix(r.URL.Path, "/content") && a.status < 300 {
		header.Set("Content-Type", "application/octet-stream")
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 a.status, Header: header, Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(a.body)
	if r.Method == http.MethodHead {
		return
	}
	if err := openapi3filter.ValidateResponse(c.f.context(), input); err != nil {
		c.t.Errorf("%s %s answers %d, and not as the document says: %.300s", r.Method, r.URL.Path, a.status, err)
	}
}

// shape compares JSON with a schema of the document.
func (c *v2) shape(schema string, body []byte) {
	c.t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		c.t.Errorf("%.200q is no JSON: %v", body, err)
		return
	}
	if err := c.document.Components.Schemas[schema].Value.VisitJSON(value); err != nil {
		c.t.Errorf("%.300s is no %s: %.300s", body, schema, err)
	}
}

// json reads the answer, which must have a status.
func (a answer) json(status int) map[string]any {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("the answer is %d: %s; want %d", a.status, a.body, status)
	}
	var value map[string]any
	if err := json.Unmarshal(a.body, &value); err != nil {
		a.t.Fatalf("the answer is no JSON object: %s", a.body)
	}
	return value
}

// refused fails unless the answer is an error with a status and code, and gives its details.
func (a answer) refused(status int, code string) map[string]any {
	a.t.Helper()
	e, _ := a.json(status)["error"].(map[string]any)
	if e["code"] != code {
		a.t.Fatalf("the answer is %s, want code %s", a.body, code)
	}
	details, _ := e["details"].(map[string]any)
	return details
}

// upload is a form: pairs of field and value in their order; the value of file is its content.
func (c *v2) upload(fields []string, header ...string) answer {
	c.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		var w io.Writer
		var err error
		if fields[i] == "file" {
			w, err = form.CreateFormFile("file", "blob")
		} else {
			w, err = form.CreateFormField(fields[i])
		}
		if err == nil {
			_, err = io.WriteString(w, fields[i+1])
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		c.t.Fatal(err)
	}
	return c.call("POST", "/api/v2/assets", body.Bytes(), append(header, "Content-Type", form.FormDataContentType())...)
}

// run submits a workflow and waits for its end.
func (c *v2) run(workflow json.RawMessage) map[string]any {
	c.t.Helper()
	return c.ended(c.call("POST", "/api/v2/jobs", map[string]any{"workflow": workflow}).json(201))
}

// ended polls a job as the SDKs do, until it has ended.
func (c *v2) ended(job map[string]any) map[string]any {
	c.t.Helper()
	self := job["urls"].(map[string]any)["self"].(string)
	c.f.eventually("the end of a job", func() bool {
		job = c.call("GET", self, nil).json(200)
		return slices.Contains([]any{"succeeded", "failed", "canceled", "expired"}, job["status"])
	})
	return job
}

// frame is an event of a stream.
type frame struct {
	event string
	data  map[string]any
}

// frames reads a stream to its end.
func (c *v2) frames(job map[string]any) (all []frame) {
	c.t.Helper()
	response, err := http.DefaultClient.Do(c.request("GET", job["urls"].(map[string]any)["events"].(string), nil))
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		c.t.Fatalf("the stream answers %d, %s", response.StatusCode, kind)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 8<<20)
	schemas := map[string]string{"status": "StatusEvent", "progress": "Progress", "preview": "PreviewEvent", "output": "Output"}
	var now frame
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "event: "):
			now.event = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			c.shape(schemas[now.event], []byte(strings.TrimPrefix(line, "data: ")))
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &now.data); err != nil {
				c.t.Fatal(err)
			}
		case line == "" && now.event != "":
			all = append(all, now)
			now = frame{}
		}
	}
	if err := lines.Err(); err != nil {
		c.t.Fatal(err)
	}
	return all
}
