package integration_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"lukechampine.com/blake3"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Clients of the Comfy API v2 upload files, run workflows with them, and read what became of them. Every answer has the form of the
// API's document.
func TestComfyAPIv2(t *testing.T) {
	t.Parallel()
	host := comfysim.Config{Name: "a", Models: map[string][]string{"checkpoints": {checkpoint}}, Previews: true, JobTimeFor: seedTime}
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{host}, jetstream: queue.Config{LaneCap: 4}})
	base := f.gateway("acme", "bolt", "crowd", "gone")
	acme, bolt := f.v2(base, "acme"), f.v2(base, "bolt")
	for name, test := range map[string]func(t *testing.T, f *fleet, c *v2){
		"AssetsAreStoredOnce":           testAssets,
		"WrongUploadsAreRefused":        testWrongUploads,
		"ContentIsReadInRanges":         testRanges,
		"JobsNameAssets":                testReferences,
		"WrongSubmitsAreRefused":        testWrongSubmits,
		"AnEndedJobTellsAll":            testEndedJob,
		"KeysAreUsedOnce":               testKeys,
		"AJobMayBeLargerThanAMessage":   testLargeJob,
		"LabelsFindJobs":                testLabels,
		"WaitingJobsAreCancelled":       testCancel,
		"AFailedNodeIsNamed":            testFailedNode,
		"PathsOfNoRouteAreSaidToBeNone": testNoRoute,
	} {
		t.Run(name, func(t *testing.T) { test(t, f, acme.in(t)) })
	}
	t.Run("NobodyElseSeesIt", func(t *testing.T) {
		asset := acme.in(t).upload([]string{"file", "private", "content_type", "text/plain", "file_path", "private.txt"}).json(201)
		made := acme.in(t).run(picture(0x010203))
		c := bolt.in(t)
		c.call("GET", "/api/v2/assets/"+asset["id"].(string), nil).refused(404, "not_found")
		c.call("GET", "/api/v2/assets/"+made["id"].(string)+".0/content", nil).refused(404, "not_found")
		c.call("GET", "/api/v2/jobs/"+made["id"].(string), nil).refused(404, "not_found")
		c.call("POST", "/api/v2/assets/from-hash", map[string]any{"hash": asset["hash"]}).refused(404, "blob_not_found")
		if jobs := c.call("GET", "/api/v2/jobs", nil).json(200)["jobs"].([]any); len(jobs) > 0 {
			t.Errorf("another tenant lists %v", jobs)
		}
		c.key = "no key of this gateway"
		c.call("GET", "/api/v2/jobs/"+made["id"].(string), nil).refused(401, "unauthorized")
	})
	t.Run("EveryGatewayAnswersForAllJobs", func(t *testing.T) {
		c, other := acme.in(t), f.v2(f.gateway("acme", "bolt"), "acme").in(t)
		later := f.q.Now().Add(time.Hour)
		for i := range 10 { // each is asked about before a dispatcher can have read it
			made := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": picture(0x200000 + i)}).json(201)
			path := "/api/v2/jobs/" + made["id"].(string)
			if got := other.call("GET", path, nil).json(200); got["created_at"] != made["created_at"] {
				t.Errorf("the job was created at %v, and another gateway says %v", made["created_at"], got["created_at"])
			}
			listed := other.call("GET", "/api/v2/jobs?limit=1", nil).json(200)["jobs"].([]any)
			if listed[0].(map[string]any)["id"] != made["id"] {
				t.Errorf("another gateway lists %v, want %v", listed, made["id"])
			}
			other.ended(other.call("GET", path, nil).json(200))
		}
		f.submit("acme", job.Spec{ID: "elsewhere", Workflow: picture(0x210000), RunAt: &later})
		c.call("POST", "/api/v2/jobs/elsewhere/cancel", nil).is(200)
		if got := other.call("GET", "/api/v2/jobs/elsewhere", nil).json(200); got["status"] != "canceled" {
			t.Errorf("another gateway says %v of a cancelled job", got["status"])
		}
	})
	t.Run("AFullLaneIsSaid", func(t *testing.T) { testFull(t, f, f.v2(base, "crowd").in(t)) })
	t.Run("ARunningJobIsCancelled", func(t *testing.T) { testCancelRunning(t, f, acme.in(t)) })
}

// Seeds decide how long the jobs of these tests run.
const (
	shownSeed = 7 // long enough for its progress to be seen
	longSeed  = 8 // until it is cancelled
)

func seedTime(class string, inputs map[string]any) time.Duration {
	if class != "KSampler" {
		return 0
	}
	return map[string]time.Duration{"7": 700 * time.Millisecond, "8": time.Minute}[fmt.Sprint(inputs["seed"])]
}

func blake(content string) string {
	sum := blake3.Sum256([]byte(content))
	return "blake3:" + hex.EncodeToString(sum[:])
}

func testAssets(t *testing.T, _ *fleet, c *v2) {
	t.Helper()
	content := strings.Repeat("content of an asset ", 20_000) // more than one part of a file
	hash := blake(content)
	c.call("HEAD", "/api/v2/assets/by-hash/"+hash, nil).is(404)
	first := c.upload([]string{"content_type", "text/plain", "file_path", "notes/a.txt", "expected_hash", hash, "tags", "input", "file", content}).json(201)
	if first["hash"] != hash || first["size_bytes"] != float64(len(content)) || first["created_new"] != true || first["file_path"] != "notes/a.txt" {
		t.Errorf("the asset is %v", first)
	}
	second := c.upload([]string{"file", content, "content_type", "text/plain", "file_path", "b.txt"}).json(200)
	if second["created_new"] != false || second["id"] == first["id"] {
		t.Errorf("the same content again is %v", second)
	}
	c.call("HEAD", "/api/v2/assets/by-hash/"+hash, nil).is(200)
	c.call("HEAD", "/api/v2/assets/by-hash/"+strings.Replace(hash, ":", "%3A", 1), nil).is(200)
	same := c.call("POST", "/api/v2/assets/from-hash", map[string]any{"hash": hash, "file_path": "b.txt"}).json(200)
	if same["id"] != second["id"] {
		t.Errorf("the same reference is %v, want that of %v", same, second["id"])
	}
	third := c.call("POST", "/api/v2/assets/from-hash", map[string]any{"hash": hash, "file_path": "c.txt", "expires_in": 60}).json(201)
	if third["created_new"] != false || third["content_type"] != "text/plain" {
		t.Errorf("the asset of a hash is %v", third)
	}
	left := timeOf(t, third["expires_at"]).Sub(timeOf(t, third["created_at"]))
	if left != time.Minute {
		t.Errorf("the asset lives for %v, want a minute", left)
	}
	id := first["id"].(string)
	if got := c.call("GET", "/api/v2/assets/"+id, nil).json(200); got["url"] != first["url"] {
		t.Errorf("the asset is %v, want %v", got, first)
	}
	if got := c.call("GET", first["url"].(string), nil); string(got.body) != content {
		t.Errorf("the content has %d bytes, want %d", len(got.body), len(content))
	}
	c.call("DELETE", "/api/v2/assets/"+id, nil).is(204)
	c.call("DELETE", "/api/v2/assets/"+id, nil).refused(404, "not_found")
	c.call("GET", "/api/v2/assets/"+id+"/content", nil).refused(404, "not_found")
	if got := c.call("GET", second["url"].(string), nil); string(got.body) != content {
		t.Errorf("the content has %d bytes after another asset of it was deleted, want %d", len(got.body), len(content))
	}
}

func timeOf(t *testing.T, value any) time.Time {
	t.Helper()
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (a answer) is(status int) {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("the answer is %d: %.200s; want %d", a.status, a.body, status)
	}
}

func testWrongUploads(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	before := f.inputs()
	other := blake("other content")
	for name, fields := range map[string][]string{
		"no file":        {"content_type", "text/plain", "file_path", "a.txt"},
		"no type":        {"file", "x", "file_path", "a.txt"},
		"wrong type":     {"file", "x", "content_type", "text plain", "file_path", "a.txt"},
		"outside":        {"file", "x", "content_type", "text/plain", "file_path", "../a.txt"},
		"absolute":       {"file", "x", "content_type", "text/plain", "file_path", "/a.txt"},
		"two files":      {"file", "x", "file", "y", "content_type", "text/plain", "file_path", "a.txt"},
		"short life":     {"file", "x", "content_type", "text/plain", "file_path", "a.txt", "expires_in", "59"},
		"long life":      {"file", "x", "content_type", "text/plain", "file_path", "a.txt", "expires_in", "604801"},
		"life of a word": {"file", "x", "content_type", "text/plain", "file_path", "a.txt", "expires_in", "long"},
		"wrong hash":     {"file", "x", "content_type", "text/plain", "file_path", "a.txt", "expected_hash", "blake3:12"},
	} {
		t.Run(name, func(t *testing.T) { c.in(t).upload(fields).refused(422, "invalid_request") })
	}
	c.upload([]string{"file", "x", "content_type", "text/plain", "file_path", "a.txt", "expected_hash", other}).refused(409, "hash_mismatch")
	c.call("POST", "/api/v2/assets", "no form").refused(400, "invalid_request")
	c.call("POST", "/api/v2/assets/from-hash", "no JSON").refused(400, "invalid_request")
	c.call("POST", "/api/v2/assets/from-hash", map[string]any{"hash": other}).refused(404, "blob_not_found")
	c.call("POST", "/api/v2/assets/from-hash", map[string]any{"hash": "md5:1"}).refused(404, "blob_not_found")
	if after := f.inputs(); after != before {
		t.Errorf("%d files are stored, want %d as before", after, before)
	}
}

// inputs counts the files in COMFY_INPUTS.
func (f *fleet) inputs() int { return len(f.subjects("OBJ_COMFY_INPUTS", "$O.COMFY_INPUTS.M.>")) }

func testRanges(t *testing.T, _ *fleet, c *v2) {
	t.Helper()
	content := strings.Repeat("0123456789", 50_000)
	asset := c.upload([]string{"file", content, "content_type", "image/png", "file_path", "digits.png"}).json(201)
	url := asset["url"].(string)
	for span, want := range map[string]string{
		"bytes=0-9": content[:10], "bytes=200005-200009": "56789", "bytes=499990-": content[499990:], "bytes=-3": "789", "bytes=499999-600000": "9",
	} {
		got := c.call("GET", url, nil, "Range", span)
		if got.status != 206 || string(got.body) != want || got.header.Get("Accept-Ranges") != "bytes" {
			t.Errorf("range %s is %d: %q, want %q", span, got.status, got.body, want)
		}
	}
	c.call("GET", url, nil, "Range", "bytes=500000-").is(416)
	head := c.call("HEAD", url, nil)
	if head.header.Get("Content-Length") != "500000" || head.header.Get("Content-Type") != "image/png" || len(head.body) != 0 {
		t.Errorf("HEAD answers %v with %d bytes", head.header, len(head.body))
	}
	if got := c.call("GET", url, nil, "If-None-Match", head.header.Get("ETag")); got.status != 304 {
		t.Errorf("the same content again is %d", got.status)
	}
	page := c.upload([]string{"file", "<script>", "content_type", "text/html", "file_path", "a.html"}).json(201)
	shown := c.call("GET", page["url"].(string), nil).header
	if !strings.HasPrefix(shown.Get("Content-Disposition"), "attachment") || shown.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a page is served with %v", shown)
	}
}

// loadImage is a workflow that saves a picture as it is.
func loadImage(image any) json.RawMessage {
	return graph(map[string]any{
		"1": node("LoadImage", "image", image),
		"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
	})
}

func reference(id any) map[string]any {
	return map[string]any{"__type": "core/ASSET", "info": map[string]any{"id": id}}
}

func testReferences(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	red := string(pngOf(t, rgb(0xff0000)))
	asset := c.upload([]string{"file", red, "content_type", "image/png", "file_path", "in/red.png"}).json(201)
	var output any
	for name, image := range map[string]any{"Name": "in/red.png", "NameOfAFolder": "in/red.png [input]", "Reference": reference(asset["id"]), "Hash": asset["hash"]} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			made := c.run(loadImage(image))
			output = wantColour(c, made, 0xff0000)
			if image, is := image.(string); is {
				wantNode(c, made, "1", image)
			} else {
				wantNode(c, made, "1", "in/red.png")
			}
		})
	}
	t.Run("Output", func(t *testing.T) { wantColour(c.in(t), c.in(t).run(loadImage(reference(output))), 0xff0000) })
	missing := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": loadImage(reference("9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"))}).refused(422, "missing_asset")
	if ids := fmt.Sprint(missing["missing_ids"]); ids != "[9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b]" {
		t.Errorf("missing are %s", ids)
	}
	for name, image := range map[string]any{
		"no info": map[string]any{"__type": "core/ASSET"}, "no text": reference(7), "inside": []any{reference(asset["id"])},
		"path": reference("../" + asset["id"].(string)), "unknown output": reference(fmt.Sprint(output) + "0"),
	} {
		t.Run(name, func(t *testing.T) {
			c.in(t).call("POST", "/api/v2/jobs", map[string]any{"workflow": loadImage(image)}).refused(422, "missing_asset")
		})
	}
}

// wantColour fails unless a job has succeeded with one picture of a colour, whose asset is as it says; it gives the asset's id.
func wantColour(c *v2, made map[string]any, colour int) any {
	c.t.Helper()
	outputs, _ := made["outputs"].([]any)
	if made["status"] != "succeeded" || len(outputs) != 1 {
		c.t.Fatalf("the job is %v", made)
	}
	o := outputs[0].(map[string]any)
	got := c.call("GET", o["url"].(string), nil)
	if o["hash"] != blake(string(got.body)) || o["size_bytes"] != float64(len(got.body)) || o["type"] != "image" || o["content_type"] != "image/png" || o["node_id"] != "9" {
		c.t.Errorf("the output is %v, with %d bytes of %s", o, len(got.body), blake(string(got.body)))
	}
	img, err := png.Decode(bytes.NewReader(got.body))
	if err != nil {
		c.t.Fatal(err)
	}
	if at := color.RGBAModel.Convert(img.At(0, 0)); at != rgb(colour) {
		c.t.Errorf("the picture is %v, want %v", at, rgb(colour))
	}
	asset := c.call("GET", "/api/v2/assets/"+o["id"].(string), nil).json(200)
	if asset["job_id"] != made["id"] || asset["hash"] != o["hash"] {
		c.t.Errorf("the asset of the output is %v", asset)
	}
	c.call("DELETE", "/api/v2/assets/"+o["id"].(string), nil).refused(409, "asset_in_use")
	return o["id"]
}

// wantNode fails unless the workflow of a job has a picture's name in a node.
func wantNode(c *v2, made map[string]any, id, image string) {
	c.t.Helper()
	got := c.call("GET", "/api/v2/jobs/"+made["id"].(string)+"/workflow", nil).json(200)
	loader, _ := got["workflow"].(map[string]any)[id].(map[string]any)
	if got["format"] != "api" || fmt.Sprint(loader["inputs"]) != "map[image:"+image+"]" {
		c.t.Errorf("the workflow is %v, want %s in node %s", got, image, id)
	}
}

func testWrongSubmits(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	w := picture(0x040506)
	for name, tc := range map[string]struct {
		body any
		code string
	}{
		"webhook":      {map[string]any{"workflow": w, "webhook_url": "https://example.com"}, "invalid_workflow"},
		"inputs":       {map[string]any{"workflow": w, "inputs": map[string]any{}}, "invalid_workflow"},
		"nothing":      {map[string]any{}, "invalid_workflow"},
		"list":         {map[string]any{"workflow": []int{}}, "invalid_workflow"},
		"cycle":        {map[string]any{"workflow": graph(map[string]any{"1": node("SaveImage", "images", link("1"))})}, "invalid_workflow"},
		"saved":        {`{"workflow":{"nodes":[],"links":[],"version":0.4}}`, "workflow_format_ui"},
		"text label":   {map[string]any{"workflow": w, "metadata": "batch"}, "metadata_invalid"},
		"number label": {map[string]any{"workflow": w, "metadata": map[string]any{"n": 7}}, "metadata_invalid"},
		"label's key":  {map[string]any{"workflow": w, "metadata": map[string]any{"bad key": "x"}}, "metadata_invalid"},
	} {
		t.Run(name, func(t *testing.T) { c.in(t).call("POST", "/api/v2/jobs", tc.body).refused(422, tc.code) })
	}
	for name, body := range map[string]any{
		"no JSON": "workflow", "other secret": map[string]any{"workflow": w, "extra_data": map[string]any{"client_id": "x"}},
		"number secret": map[string]any{"workflow": w, "extra_data": map[string]any{"api_key_comfy_org": 1}},
		"text secrets":  map[string]any{"workflow": w, "extra_data": "x"},
	} {
		t.Run(name, func(t *testing.T) { c.in(t).call("POST", "/api/v2/jobs", body).refused(400, "invalid_request") })
	}
	unknown := graph(map[string]any{"1": node("NoSuchNode"), "9": node("SaveImage", "images", link("1"), "filename_prefix", "x")})
	details := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": unknown}).refused(422, "invalid_workflow")
	if got := fmt.Sprint(details); got != "map[node_errors:map[1:[map[field:class_type message:missing node NoSuchNode reason:missing_node_type]]]]" {
		t.Errorf("the details are %s", got)
	}
	model := paint("no-such-model.safetensors", "a cat", 1)
	details = c.call("POST", "/api/v2/jobs", map[string]any{"workflow": model}).refused(422, "invalid_workflow")
	if got := fmt.Sprint(details); !strings.Contains(got, "map[4:[map[field:ckpt_name message:missing model no-such-model.safetensors in") {
		t.Errorf("the details are %s", got)
	}
}

func testEndedJob(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	made := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": paint(checkpoint, "a cat", shownSeed), "extra_data": map[string]any{"api_key_comfy_org": "comfyui-0123456789"}}).json(201)
	if made["status"] != "queued" || made["started_at"] != nil || made["completed_at"] != nil || len(made["outputs"].([]any)) != 0 {
		t.Errorf("the new job is %v", made)
	}
	frames := c.frames(made)
	wantOrder(t, frames)
	wantLive(t, frames)
	got := c.call("GET", "/api/v2/jobs/"+made["id"].(string), nil).json(200)
	created, started, completed := timeOf(t, got["created_at"]), timeOf(t, got["started_at"]), timeOf(t, got["completed_at"])
	if got["created_at"] != made["created_at"] || started.Before(created) || completed.Before(started) || timeOf(t, got["expires_at"]).Sub(created) != 24*time.Hour {
		t.Errorf("the job was created at %v, started at %v, completed at %v, expires at %v; at first it was created at %v",
			got["created_at"], got["started_at"], got["completed_at"], got["expires_at"], made["created_at"])
	}
	if p := got["progress"].(map[string]any); p["value"] != 1.0 || p["nodes_done"] != 7.0 || p["nodes_total"] != 7.0 {
		t.Errorf("the progress at the end is %v", p)
	}
	if m := got["metrics"].(map[string]any); m["queue_ms"] == nil || m["execution_ms"] == nil {
		t.Errorf("the metrics are %v", m)
	}
	wantOrder(t, c.frames(made)) // the job has ended before
	body := c.call("GET", "/api/v2/jobs/"+made["id"].(string)+"/workflow", nil)
	if strings.Contains(string(body.body), "comfyui-0123456789") {
		t.Error("the workflow has the key of the submit")
	}
	if prompts := f.sims["a"].Prompts(); !slices.ContainsFunc(prompts, func(p []byte) bool { return bytes.Contains(p, []byte("comfyui-0123456789")) }) {
		t.Error("the host has not received the key of the submit")
	}
}

// wantOrder fails unless a stream has its outputs before the last status, and nothing behind that.
func wantOrder(t *testing.T, frames []frame) {
	t.Helper()
	last := len(frames) - 1
	if last < 1 || frames[last].event != "status" || frames[last].data["status"] != "succeeded" {
		t.Fatalf("the stream is %v", frames)
	}
	if frames[last-1].event != "output" {
		t.Errorf("before the last status comes %v", frames[last-1])
	}
	for _, fr := range frames[:last] {
		if fr.event == "status" && fr.data["status"] != "queued" && fr.data["status"] != "running" {
			t.Errorf("a last status comes before others: %v", frames)
		}
	}
}

// wantLive fails unless a stream has shown how the job ran, node by node.
func wantLive(t *testing.T, frames []frame) {
	t.Helper()
	seen := map[string]bool{}
	for _, fr := range frames {
		switch {
		case fr.event == "progress" && fr.data["current_node"] == "3" && fr.data["current_node_class"] == "KSampler" && fr.data["nodes_total"] == 7.0:
			seen["progress"] = true
		case fr.event == "preview" && fr.data["node_id"] == "3":
			seen["preview"] = true
		case fr.event == "status":
			seen[fmt.Sprint(fr.data["status"])] = true
		}
	}
	for _, want := range []string{"progress", "preview", "running"} {
		if !seen[want] {
			t.Errorf("the stream shows no %s: %.2000v", want, frames)
		}
	}
}

func testKeys(t *testing.T, _ *fleet, c *v2) {
	t.Helper()
	submit := map[string]any{"workflow": picture(0x070809)}
	c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "").refused(400, "invalid_request")
	c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", strings.Repeat("k", 256)).refused(400, "invalid_request")
	c.call("POST", "/api/v2/jobs", map[string]any{}, "Idempotency-Key", "one key").refused(422, "invalid_workflow")
	made := c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "one key").json(201) // the refused request has not used it
	for range 2 {
		c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "one key").refused(422, "idempotency_key_reuse")
	}
	c.ended(made)
	var made201, reused atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			switch c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "at the same time").status {
			case 201:
				made201.Add(1)
			case 422:
				reused.Add(1)
			}
		})
	}
	if all.Wait(); made201.Load() != 1 || reused.Load() != 7 {
		t.Errorf("of 8 requests with one key %d have made a job and %d were refused", made201.Load(), reused.Load())
	}
	form := []string{"file", "for keys", "content_type", "text/plain", "file_path", "k.txt"}
	c.upload(form[:2], "Idempotency-Key", "another key").refused(422, "invalid_request")
	c.upload(form, "Idempotency-Key", "another key").is(201)
	c.upload(form, "Idempotency-Key", "another key").refused(422, "idempotency_key_reuse")
}

func testLabels(t *testing.T, _ *fleet, c *v2) {
	t.Helper()
	var ids []string
	for i := range 3 {
		labels := map[string]string{"client": "acme", "run": fmt.Sprint(i)}
		made := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": picture(0x0a0b00 + i), "metadata": labels}).json(201)
		if got := fmt.Sprint(made["metadata"]); got != fmt.Sprintf("map[client:acme run:%d]", i) {
			t.Errorf("the labels are %s", got)
		}
		ids = append(ids, c.ended(made)["id"].(string))
	}
	first := c.call("GET", "/api/v2/jobs?metadata[client]=acme&limit=2", nil).json(200)
	rest := c.call("GET", "/api/v2/jobs?metadata[client]=acme&limit=2&cursor="+first["next_cursor"].(string), nil).json(200)
	var listed []string
	for _, item := range append(first["jobs"].([]any), rest["jobs"].([]any)...) {
		listed = append(listed, item.(map[string]any)["id"].(string))
	}
	if want := []string{ids[2], ids[1], ids[0]}; fmt.Sprint(listed) != fmt.Sprint(want) || rest["next_cursor"] != nil {
		t.Errorf("the list is %v, want %v, and then %v", listed, want, rest["next_cursor"])
	}
	one := c.call("GET", "/api/v2/jobs?metadata[client]=acme&metadata[run]=1", nil).json(200)["jobs"].([]any)
	if len(one) != 1 || one[0].(map[string]any)["id"] != ids[1] || one[0].(map[string]any)["status"] != "succeeded" {
		t.Errorf("with two labels the list is %v", one)
	}
	c.call("GET", "/api/v2/jobs?cursor=x", nil).refused(400, "invalid_cursor")
	c.call("GET", "/api/v2/jobs?limit=0", nil).refused(400, "invalid_request")
	c.call("GET", "/api/v2/jobs?metadata[a]=1&metadata[b]=1&metadata[c]=1&metadata[d]=1", nil).refused(400, "invalid_metadata_filter")
	c.call("GET", "/api/v2/jobs?metadata[bad%20key]=1", nil).refused(400, "invalid_metadata_filter")
}

func testCancel(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	later := f.q.Now().Add(time.Hour)
	f.submit("acme", job.Spec{ID: "waits", Workflow: picture(0x0c0d0e), RunAt: &later})
	waits := c.call("GET", "/api/v2/jobs/waits", nil).json(200)
	if waits["status"] != "queued" {
		t.Errorf("the job is %v", waits)
	}
	cancelled := c.call("POST", "/api/v2/jobs/waits/cancel", nil).json(200)
	again := c.call("POST", "/api/v2/jobs/waits/cancel", "").json(200)
	if cancelled["status"] != "canceled" || fmt.Sprint(again) != fmt.Sprint(cancelled) {
		t.Errorf("the cancelled job is %v, and then %v", cancelled, again)
	}
	if frames := c.frames(cancelled); len(frames) != 1 || frames[0].data["status"] != "canceled" {
		t.Errorf("its stream is %v", frames)
	}
	c.call("POST", "/api/v2/jobs/unknown/cancel", nil).refused(404, "not_found")
}

func testFailedNode(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	expired := f.q.Now().Add(time.Hour)
	f.submit("acme", job.Spec{ID: "expires", Workflow: picture(0x0f0e0d), RunAt: &expired, ExpiresIn: job.Duration(time.Millisecond)})
	f.eventually("the job expires", func() bool { return c.call("GET", "/api/v2/jobs/expires", nil).json(200)["status"] == "expired" })
	f.sims["a"].AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: "boom"})
	raises := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1), "2": node("ImageInvert", "image", link("1")),
		"9": node("SaveImage", "images", link("2"), "filename_prefix", "out"),
	})
	f.end(f.submit("acme", job.Spec{ID: "raises", Workflow: raises, MaxAttempts: 1, Record: true}))
	failed := c.call("GET", "/api/v2/jobs/raises", nil).json(200)
	e, _ := failed["error"].(map[string]any)
	where, _ := e["traceback"].(string)
	if failed["status"] != "failed" || e["code"] != "node_execution_error" || e["message"] != "node 2 (ImageInvert) raised ValueError: boom" || e["node_id"] != "2" || e["class_type"] != "ImageInvert" || !strings.Contains(where, "File ") {
		t.Errorf("the failed job is %v", failed)
	}
	if frames := c.frames(failed); len(frames) != 1 || frames[0].data["status"] != "failed" {
		t.Errorf("its stream is %v", frames)
	}
}

func testNoRoute(_ *testing.T, _ *fleet, c *v2) {
	c.call("GET", "/api/v2/nothing", nil).refused(404, "not_found")
	a := c.call("PUT", "/api/v2/jobs", nil)
	a.refused(405, "method_not_allowed")
	if allow := a.header.Get("Allow"); allow != "GET, HEAD, POST" {
		c.t.Errorf("allowed are %s", allow)
	}
	c.call("GET", "/api/v2/jobs/none", nil).refused(404, "not_found")
	c.call("GET", "/api/v2/jobs/..%2Fnone", nil).refused(404, "not_found")
	c.call("GET", "/api/v2/jobs/none/events", nil).refused(404, "not_found")
	c.call("GET", "/api/v2/jobs/none/workflow", nil).refused(404, "not_found")
}

func testLargeJob(t *testing.T, _ *fleet, c *v2) {
	t.Helper()
	var nodes map[string]map[string]any
	if err := json.Unmarshal(paint(checkpoint, strings.Repeat("a very long text ", 62_000), 3), &nodes); err != nil {
		t.Fatal(err)
	}
	made := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": nodes}).json(201)
	if ended := c.ended(made); ended["status"] != "succeeded" {
		t.Errorf("the job is %.2000v", ended)
	}
	got := c.call("GET", "/api/v2/jobs/"+made["id"].(string)+"/workflow", nil).json(200)
	if diff := cmp.Diff(fmt.Sprint(nodes), fmt.Sprint(got["workflow"])); diff != "" {
		t.Errorf("the workflow has changed: %.300s", diff)
	}
}

func testCancelRunning(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	long := strings.Replace(string(paint(checkpoint, "too long", longSeed)), `"steps":4`, `"steps":600`, 1) // ComfyUI stops between two steps
	made := c.call("POST", "/api/v2/jobs", map[string]any{"workflow": json.RawMessage(long)}).json(201)
	id := made["id"].(string)
	f.eventually("the job runs", func() bool { return c.call("GET", "/api/v2/jobs/"+id, nil).json(200)["status"] == "running" })
	if got := c.call("POST", "/api/v2/jobs/"+id+"/cancel", nil).json(200); got["status"] != "canceled" || got["started_at"] == nil {
		t.Errorf("the job is %v", got)
	}
}

func testFull(t *testing.T, f *fleet, c *v2) {
	t.Helper()
	later := f.q.Now().Add(time.Hour)
	for i := range 4 {
		f.submit("crowd", job.Spec{ID: job.ID(fmt.Sprintf("full-%d", i)), Workflow: picture(0x101112 + i), RunAt: &later})
	}
	submit := map[string]any{"workflow": picture(0x131415)}
	a := c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "full")
	a.refused(429, "queue_full")
	if wait := a.header.Get("Retry-After"); wait != "5" {
		t.Errorf("Retry-After is %q", wait)
	}
	for i := range 4 {
		c.call("POST", fmt.Sprintf("/api/v2/jobs/full-%d/cancel", i), nil).is(200)
	}
	f.eventually("room in the lane", func() bool { return c.call("POST", "/api/v2/jobs", submit, "Idempotency-Key", "full").status == 201 })
}
