package comfy_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const secondID = "1591d20b-ec41-400d-ac88-1b5c18025624"

var namedPrompt = regexp.MustCompile(`"prompt_id":"([^"]*)"`)

// acceptsAny accepts every prompt under the id that it has.
func acceptsAny(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // of the bubble's own
	accepts(namedPrompt.FindStringSubmatch(string(body))[1])(w, r)
}

// wrote is the record of a prompt whose node 2 left a file outside of its folder, and that ended half a second after
// midnight.
func wrote(cached string) http.HandlerFunc {
	return says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"images": [{"filename": "art.png", "subfolder": "", "type": "output"}]}},
		"execution_status": {"status_str": "success", "messages": [["execution_cached", {"nodes": [`+cached+`], "timestamp": 1795824000100}],
		["execution_success", {"timestamp": 1795824000500}]]}}`)
}

// headers answers with a header.
func headers(tag, modified, length string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Etag": tag, "Last-Modified": modified, "Content-Length": length} {
			if value != "" {
				w.Header().Set(name, value)
			}
		}
	}
}

// A file of ComfyUI's cache is delivered when it is the one that a prompt of ours is known to have written.
func TestACachedFileIsDeliveredWhenItsVersionIsProven(t *testing.T) {
	t.Parallel()
	const midnight, later = "Sat, 28 Nov 2026 00:00:00 GMT", "Sat, 28 Nov 2026 00:00:01 GMT"
	at := func(d time.Duration) string { // the form of aiohttp
		return fmt.Sprintf(`"%x-7"`, time.Unix(1795824000, 0).Add(d).UnixNano())
	}
	for name, c := range map[string]struct {
		written, found http.HandlerFunc
		version        string // empty: it is not delivered
	}{
		"SameTag":                  {headers(`"a"`, "", ""), headers(`"a"`, "", ""), `"a"`},
		"WeakTag":                  {headers(`"a"`, "", ""), headers(`W/"a"`, "", ""), `"a"`},
		"OtherTag":                 {headers(`"a"`, "", ""), headers(`"b"`, "", ""), ""},
		"SameTimeAndLength":        {headers("", midnight, "7"), headers("", midnight, "7"), midnight + " 7"},
		"OtherLength":              {headers("", midnight, "7"), headers("", midnight, "8"), ""},
		"NothingToTellItBy":        {headers("", "", "7"), headers("", "", "7"), ""},
		"WrittenAfterTheEnd":       {headers(`"a"`, later, ""), headers(`"a"`, later, ""), ""},
		"WrittenInTheSameSecond":   {headers(at(400*time.Millisecond), midnight, ""), headers(at(400*time.Millisecond), midnight, ""), at(400 * time.Millisecond)},
		"WrittenALittleAfter":      {headers(at(501*time.Millisecond), midnight, ""), headers(at(501*time.Millisecond), midnight, ""), ""},
		"WrittenInTheMillisecond":  {headers(at(500500*time.Microsecond), midnight, ""), headers(at(500500*time.Microsecond), midnight, ""), at(500500 * time.Microsecond)},
		"TagOfAnotherSecond":       {headers(at(2*time.Second), midnight, ""), headers(at(2*time.Second), midnight, ""), at(2 * time.Second)}, // it is no time
		"NoTime":                   {headers(`"a"`, "yesterday", ""), headers(`"a"`, "yesterday", ""), `"a"`},
		"NotThereWhenItWasWritten": {says(http.StatusNotFound, ""), headers(`"a"`, "", ""), ""},
		"NotThereAnyMore":          {headers(`"a"`, "", ""), says(http.StatusNotFound, ""), ""},
		"NotTaken":                 {headers(`"a"`, "", ""), says(http.StatusForbidden, ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{
					"POST /prompt": acceptsAny, "GET " + jobPath: wrote(""), "GET /api/jobs/" + secondID: wrote(`"1", "2"`),
					"HEAD /view": c.written, "POST /free": says(http.StatusInternalServerError, ""),
				}
				host, _ := inBubble(t, answers, comfy.Options{})
				if result, err := host.Run(t.Context(), ours, comfy.Watch{}); err != nil || result.OutputsReused {
					t.Fatalf("%+v, %v", result, err)
				}
				answers["HEAD /view"] = c.found
				result, err := host.Run(t.Context(), comfy.Prompt{ID: secondID, Workflow: []byte(graph)}, comfy.Watch{})
				if c.version != "" {
					if err != nil || !result.OutputsReused || result.Outputs[0].Version != c.version {
						t.Errorf("%+v, %v", result, err)
					}
					return
				}
				same(t, "failure", *failure.As(err), failure.Failure{Kind: failure.Lost, Node: "2", Exception: "result_not_proven",
					Message: "ComfyUI took the result art.png of node 2 from its cache, and another prompt may have overwritten the file since, so that it is not delivered"})
			})
		})
	}
}

// A prompt whose file is not proven is run again with nothing cached, and its watch is told of progress only.
func TestAPromptWithAFileThatIsNotProvenIsRunAgainOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second string // what is cached of the second run
		want   failure.Kind
	}{"NothingIsCached": {"", ""}, "AllIsCachedAgain": {`"2"`, failure.Lost}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := routes{"POST /prompt": acceptsAny, "GET " + jobPath: wrote(`"1", "2"`), "HEAD /view": headers(`"a"`, "", "")}
				answers["POST /free"] = func(w http.ResponseWriter, r *http.Request) {
					answers["GET "+jobPath] = wrote(c.second)
					says(http.StatusOK, "")(w, r)
				}
				answers["POST /history"] = says(http.StatusOK, "")
				host, b := inBubble(t, answers, comfy.Options{})
				submitted := 0
				_, err := host.Run(t.Context(), ours, comfy.Watch{Submitted: func() { submitted++ }})
				same(t, "kind", failure.KindOf(err), c.want)
				same(t, "submitted", submitted, 1)
				var posts []string
				for _, post := range b.posts() {
					post, _, _ = strings.Cut(post, ` {"prompt":`)
					posts = append(posts, post)
				}
				same(t, "posts", posts, []string{"POST /prompt", `POST /free {"free_memory":true,"unload_models":false}`, `POST /history {"delete":["` + promptID + `"]}`, "POST /prompt"})
			})
		})
	}
}

// A busy ComfyUI is asked for a file for as long as a run would wait for it.
func TestAFileThatCannotBeAskedForLosesThePrompt(t *testing.T) {
	t.Parallel()
	guessed := says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"result": ["mesh/a.glb"]}}}`)
	for name, c := range map[string]struct {
		record, head http.HandlerFunc
		took         time.Duration
		want         failure.Kind
	}{
		"CachedBreaks":     {wrote(`"2"`), breaks, 2 * time.Minute, failure.HostLost},
		"CachedRefused":    {wrote(`"2"`), refuses, 0, failure.HostLost},
		"CachedForAMoment": {wrote(`"2"`), after(1500*time.Millisecond, breaks, says(http.StatusNotFound, "")), 2 * time.Second, failure.Lost},
		"GuessedBreaks":    {guessed, breaks, 2 * time.Minute, failure.HostLost},
		"GuessedRefused":   {guessed, refuses, 0, failure.HostLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs(t, routes{"GET " + jobPath: c.record, "HEAD /view": c.head, "POST /free": says(http.StatusForbidden, "")}, ours, comfy.Watch{}, nil)
				same(t, "kind", failure.KindOf(r.err), c.want)
				same(t, "took", r.took, c.took)
				if c.want == failure.HostLost && !strings.HasPrefix(failure.As(r.err).Message, "ComfyUI does not say whether a result is there: ") {
					t.Error(r.err)
				}
			})
		})
	}
}

// What a node shows under "result" is a file where ComfyUI has one of that name, and else a text.
func TestATextThatLooksLikeAFileIsOneWhereItIsThere(t *testing.T) {
	t.Parallel()
	there := func(kind, folder string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("type") != kind || q.Get("subfolder") != folder {
				w.WriteHeader(http.StatusNotFound)
			}
		}
	}
	for name, c := range map[string]struct {
		shown string
		head  http.HandlerFunc
		want  []comfy.Output
		texts map[string][]string
	}{
		"InOutput":      {"mesh/a.glb", there("output", "mesh"), []comfy.Output{{Node: "2", Media: "result", Filename: "a.glb", Subfolder: "mesh", Type: "output"}}, nil},
		"OnWindows":     {`mesh\deep\a.glb`, there("output", "mesh/deep"), []comfy.Output{{Node: "2", Media: "result", Filename: "a.glb", Subfolder: "mesh/deep", Type: "output"}}, nil},
		"OnlyInTemp":    {"mesh/a.glb", there("temp", "mesh"), []comfy.Output{}, map[string][]string{"2": {"mesh/a.glb"}}},
		"InTemp":        {"temp/x/bg.png", there("temp", "x"), []comfy.Output{{Node: "2", Media: "result", Filename: "bg.png", Subfolder: "x", Type: "temp"}}, nil},
		"InTempItself":  {"temp/bg.png", there("temp", ""), []comfy.Output{{Node: "2", Media: "result", Filename: "bg.png", Type: "temp"}}, nil},
		"Marked":        {"a.glb [temp]", there("temp", ""), []comfy.Output{{Node: "2", Media: "result", Filename: "a.glb", Type: "temp"}}, nil},
		"NotThere":      {"mesh/a.glb", there("", ""), []comfy.Output{}, map[string][]string{"2": {"mesh/a.glb"}}},
		"NoNameOfAFile": {"mesh/a.glb", says(http.StatusBadRequest, ""), []comfy.Output{}, map[string][]string{"2": {"mesh/a.glb"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				record := says(http.StatusOK, `{"status": "completed", "outputs": {"2": {"result": [`+quote(t, c.shown)+`]}}}`)
				r := runs(t, routes{"GET " + jobPath: record, "HEAD /view": c.head}, ours, comfy.Watch{}, nil)
				if r.err != nil {
					t.Fatal(r.err)
				}
				same(t, "files", r.result.Outputs, c.want)
				same(t, "texts", r.result.Texts, c.texts)
			})
		})
	}
}
