package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed are the jobs of /api/jobs by id.
func (f *face) listed(query string) map[string]map[string]any {
	f.t.Helper()
	got := f.get("/api/jobs?" + query)
	page, _ := got["pagination"].(map[string]any)
	if page["limit"] == nil || page["total"] == nil || page["has_more"] == nil {
		f.t.Errorf("pagination %v", page)
	}
	jobs, _ := got["jobs"].([]any)
	byID := map[string]map[string]any{}
	for _, j := range jobs {
		job, _ := j.(map[string]any)
		byID[fmt.Sprint(job["id"])] = job
	}
	return byID
}

func TestThePageListsJobsAsItsSchemaWantsThem(t *testing.T) {
	t.Parallel()
	f := open(t)
	done := f.prompt(map[string]any{"prompt": picture(20)})
	f.ended(done)
	failing := picture(21)
	failing["3"] = node("SimRaise", map[string]any{"image": []any{"1", 0}, "kind": "ValueError", "message": "boom"})
	failing["2"] = node("SaveImage", map[string]any{"images": []any{"3", 0}, "filename_prefix": "x"})
	dead := f.prompt(map[string]any{"prompt": failing})
	f.ended(dead)
	jobs := f.listed("status=completed,failed,cancelled&limit=64")
	ok := jobs[done]
	preview, _ := ok["preview_output"].(map[string]any)
	if ok["status"] != "completed" || ok["outputs_count"] != 1.0 || preview["nodeId"] != "2" || preview["mediaType"] != "images" || ok["execution_error"] != nil {
		t.Errorf("completed: %v", ok)
	}
	bad := jobs[dead]
	problem, _ := bad["execution_error"].(map[string]any)
	if bad["status"] != "failed" || problem["node_id"] != "3" || problem["node_type"] != "SimRaise" || problem["traceback"] == nil {
		t.Errorf("failed: %v", bad)
	}
	if got := f.listed("status=in_progress,pending&limit=200&offset=0"); len(got) != 0 {
		t.Errorf("nothing runs, and listed is %v", got)
	}
	detail := f.get("/api/jobs/" + done)
	outputs, _ := detail["outputs"].(map[string]any)
	workflow, _ := detail["workflow"].(map[string]any)
	if outputs["2"] == nil || workflow["prompt"] == nil {
		t.Errorf("detail %v", detail)
	}
	if a := f.do(http.MethodGet, "/api/jobs?status=odd", nil); a.status != http.StatusBadRequest {
		t.Errorf("an odd status: %d", a.status)
	}
	if a := f.do(http.MethodGet, "/api/jobs/nobody", nil); a.status != http.StatusNotFound {
		t.Errorf("an unknown job: %d", a.status)
	}
}

func TestWhatIsRemovedFromTheHistoryIsHiddenOnEveryGateway(t *testing.T) {
	t.Parallel()
	f, other := open(t), open(t)
	first, second, third := f.prompt(map[string]any{"prompt": picture(22)}), f.prompt(map[string]any{"prompt": picture(23)}), f.prompt(map[string]any{"prompt": picture(24)})
	for _, id := range []string{first, second, third} {
		f.ended(id)
	}
	if a := f.do(http.MethodPost, "/history", map[string]any{"delete": []string{first}}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := f.get("/history"); got[first] != nil || got[second] == nil {
		t.Errorf("the history has %d entries", len(got))
	}
	for len(other.get("/history/"+first)) != 0 { // it is told by a watch
	}
	if a := other.do(http.MethodPost, "/api/history", `{"clear":true}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := other.get("/history"); len(got) != 0 {
		t.Errorf("after clear the history has %v", got)
	}
	for len(f.get("/history")) != 0 {
	}
	later := f.prompt(map[string]any{"prompt": picture(25)})
	f.ended(later)
}

func TestSettingsAndFilesAreATenantsOwn(t *testing.T) {
	t.Parallel()
	mine, theirs := tenantOf(t), tenantOf(t)+"-other"
	f := open(t, mine, theirs)
	if got := f.get("/api/settings"); len(got) != 0 {
		t.Errorf("at first the settings are %v", got)
	}
	f.do(http.MethodPost, "/api/settings/Comfy.InstalledVersion", `"1.58.1"`)
	f.do(http.MethodPost, "/settings", map[string]any{"a": 1})
	if diff := cmp.Diff(map[string]any{"Comfy.InstalledVersion": "1.58.1", "a": 1.0}, f.get("/settings")); diff != "" {
		t.Error(diff)
	}
	if got := f.as(theirs).get("/api/settings"); len(got) != 0 {
		t.Errorf("the other tenant sees %v", got)
	}
	a := f.do(http.MethodPost, "/api/userdata/workflows%2Fa.json?overwrite=false&full_info=true", `{"nodes":[]}`)
	var info struct {
		Path string
		Size int
	}
	if a.into(t, &info); a.status != http.StatusOK || info.Path != "workflows/a.json" || info.Size != 12 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"POST", "workflows%2Fa.json?overwrite=false", 409}, {"POST", "..%2Fx.json", 400}, {"POST", "a%2F..%2F..%2Fx", 400},
		{"POST", "%2Fetc%2Fx", 400}, {"POST", "a%5C..%5Cb", 400}, {"GET", "missing.json", 404}, {"DELETE", "missing.json", 404},
	} {
		if a := f.do(c.method, "/userdata/"+c.path, "x"); a.status != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, a.status, c.want)
		}
	}
	if a := f.as(theirs).do(http.MethodGet, "/userdata/workflows%2Fa.json", nil); a.status != http.StatusNotFound {
		t.Errorf("the other tenant: %d %s", a.status, a.body)
	}
	list := f.do(http.MethodGet, "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true", nil)
	var files []struct {
		Path string
		Size int
	}
	if list.into(t, &files); len(files) != 1 || files[0].Path != "a.json" || files[0].Size != 12 {
		t.Errorf("%s", list.body)
	}
	if a := f.do(http.MethodGet, "/api/userdata?dir=nothing", nil); a.status != http.StatusNotFound {
		t.Errorf("an unknown folder: %d", a.status)
	}
	if a := f.do(http.MethodPost, "/api/userdata/workflows%2Fa.json/move/workflows%2Fb.json", ""); a.status != http.StatusOK || string(a.body) != `"workflows/b.json"` {
		t.Errorf("move: %d %s", a.status, a.body)
	}
	if a := f.do(http.MethodDelete, "/userdata/workflows%2Fb.json", nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %d", a.status)
	}
}

// The page sends many settings at a time when it starts.
func TestSettingsThatAreChangedAtTheSameTimeAreAllKept(t *testing.T) {
	t.Parallel()
	f, other := open(t), open(t)
	f.do(http.MethodPost, "/userdata/comfy.settings.json", "null") // any client may write the file
	want := map[string]any{}
	var all sync.WaitGroup
	for i := range 8 {
		id := fmt.Sprintf("Comfy.Setting%d", i)
		want[id] = float64(i)
		for _, through := range []*face{f, other} {
			all.Go(func() {
				if a := through.do(http.MethodPost, "/api/settings/"+id, fmt.Sprint(i)); a.status != http.StatusOK {
					t.Errorf("%s: %d %s", id, a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	if diff := cmp.Diff(want, f.get("/settings")); diff != "" {
		t.Error(diff)
	}
}
