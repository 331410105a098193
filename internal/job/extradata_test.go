package job_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestExtraDataIsLeftOutAndNothingElse(t *testing.T) {
	t.Parallel()
	const node = `{"class_type":"A","inputs":{"extra_data":1}}`
	for body, want := range map[string]struct {
		rest    string
		members []string
	}{
		`{"workflow":{"1":` + node + `},"extra_data":{"key":"S","other":2}}`:                           {`{"workflow":{"1":` + node + `}}`, []string{"key", "other"}},
		`{"extra_data":{"key":"S"},"prompt":{"1":` + node + `}}`:                                       {`{"prompt":{"1":` + node + `}}`, []string{"key"}},
		"\xef\xbb\xbf {\n \"id\" : \"a\" ,\n \"extra_data\" : {\"key\":\"}\"} ,\n \"workflow\" : {} }": {"\xef\xbb\xbf {\n \"id\" : \"a\" ,\n \n \"workflow\" : {} }", []string{"key"}},
		`{"workflow":{},"extra\u005fdata":{"key":"S"},"Extra_Data":{"two":1}}`:                         {`{"workflow":{}}`, []string{"key", "two"}},
		`{"extra_data":"S"}`:                                     {`{}`, []string{"extra_data"}},
		`{"extra_data":null,"workflow":{}}`:                      {`{"workflow":{}}`, []string{}},
		`{"1":` + node + `}`:                                     {`{"1":` + node + `}`, nil},
		`{"extra_data":` + node + `}`:                            {`{"extra_data":` + node + `}`, nil}, // a bare workflow
		`{"workflow":{"1":` + node + `,"extra_data":{"key":"S"}`: {`{"workflow":{"1":{"class_type":"A","inputs":{"`, []string{"extra_data"}},
		`{"workflow":{"prompt":{},"extra_data":{"key":"S"}}}`:    {`{"workflow":{"prompt":{}}}`, []string{"key"}}, // a body in a body
		`{"prompt":{"extra_data":` + node + `}}`:                 {`{"prompt":{"extra_data":` + node + `}}`, nil},
		`{"workflow":{}} {"extra_data":{"key":"S"}}`:             {`{"workflow":{}} {"`, []string{"extra_data"}},
		`[{"Extra_data":{"key":"S"}}]`:                           {`[{"`, []string{"extra_data"}},
		`{"id":"a" "extra_data":{"key":"S"}}`:                    {`{"id":"a" "`, []string{"extra_data"}}, // a comma is missing
		`{"workflow":{},"extra_data":{"key":"S"`:                 {`{"workflow":{},"`, []string{"extra_data"}},
		``:                                                       {``, nil},
		`{"workflow":{},"ten_digits":{"a":1}}`:                   {`{"workflow":{},"ten_digits":{"a":1}}`, nil},
		`{"prompt":{"1":` + node + `,"extra_data":{"key":"S"}}}`: {`{"prompt":{"1":` + node + `}}`, []string{"key"}},
		`{"workflow":{},"prompt":{"extra_data":{"key":"S"}}}`:    {`{"workflow":{},"prompt":{}}`, []string{"key"}},
		`{"workflow":{"Extra_Data":{"key":"S"}}}`:                {`{"workflow":{}}`, []string{"key"}},
		`{"workflow":["extra_data":{"key":"S"}]}`:                {`{"workflow":[]}`, []string{"key"}},
		`{"workflow":{}} {"Extra_Data":{"key":"S"}}`:             {`{"workflow":{}} {"`, []string{"extra_data"}},
		`{"workflow":{},"extra_data":{"key":"S"}`:                {`{"workflow":{}`, []string{"key"}}, // cut behind it
		`{"workflow":{},"extra_data":{"key":"S"},`:               {`{"workflow":{},`, []string{"key"}},
		`{"extra_data":5 }`:                                      {`{ }`, []string{"extra_data"}},
		`["extra_data":{"key":"S"}}`:                             {`["`, []string{"extra_data"}},
		`extra_data: S`:                                          {``, []string{"extra_data"}},
		`no JSON`:                                                {`no JSON`, nil},
	} {
		rest, members := job.WithoutExtraData([]byte(body))
		slices.Sort(members)
		if diff := cmp.Diff(want.rest, string(rest)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
		if !slices.Equal(members, want.members) {
			t.Errorf("%s: it had %q, want %q", body, members, want.members)
		}
		if has := job.HasExtraData([]byte(body)); has != (string(rest) != body) {
			t.Errorf("%s: has extra_data: %v", body, has)
		}
	}
}

func TestExtraDataIsGivenAgain(t *testing.T) {
	t.Parallel()
	const graph = `{"3":{"class_type":"A","inputs":{"seed":18446744073709551615}}}`
	for _, body := range []string{graph, " \xef\xbb\xbf" + graph, `{"workflow":` + graph + `}`, `{"prompt":` + graph + `,"metadata":{"a":1}}`} {
		spec, err := job.ParseSpec(job.WithExtraData([]byte(body), json.RawMessage(`{"key":"S"}`)))
		if err != nil || string(spec.ExtraData) != `{"key":"S"}` || string(spec.Workflow) != graph {
			t.Errorf("%s became extra_data %s, workflow %s, %v", body, spec.ExtraData, spec.Workflow, err)
		}
	}
	if got := job.WithExtraData([]byte(`{"workflow":`), json.RawMessage(`{"key":"S"}`)); string(got) != `{"workflow":` {
		t.Errorf("what is no body became %s", got)
	}
}

func TestSecretsAreTheTextsThatMayBeKeys(t *testing.T) {
	t.Parallel()
	got := job.Secrets(json.RawMessage(`{"api_key":"0123456789","short":"auto","nested":{"list":["abcdefghijkl",7,"8letters","7letter"]},"extra_pnginfo":{"workflow":"not a secret"}}`))
	if want := []string{"abcdefghijkl", "0123456789", "8letters"}; !slices.Equal(got, want) {
		t.Errorf("secrets are %q, want %q", got, want)
	}
	if job.Secrets(nil) != nil || job.Secrets(json.RawMessage(`"text"`)) != nil {
		t.Error("what is no object has secrets")
	}
}

func TestWhatComfyUIWritesIntoPicturesIsNoSecret(t *testing.T) {
	t.Parallel()
	for member, want := range map[string]bool{
		"extra_pnginfo": true, "client_id": true, "create_time": true, "preview_method": true, "api_key_comfy_org": false, "auth_token_comfy_org": false,
	} {
		if got := job.PublicExtraData(member); got != want {
			t.Errorf("%s is public: %t, want %t", member, got, want)
		}
	}
}

func FuzzNoExtraDataIsLeft(f *testing.F) {
	for _, seed := range []string{`{"extra_data":{"key":"S"},"workflow":{}}`, `{"extra_data":{},,"extra_data":{}}`, `{"a":"\"extra_data\":","extra_data":1`, `{"1":{"class_type":"extra_data"}}`, "\v{\"\":{\"\"\"extra_data\"}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		rest, members := job.WithoutExtraData(body)
		if (len(rest) != len(body)) != job.HasExtraData(body) || job.HasExtraData(rest) {
			t.Fatalf("%q became %q", body, rest)
		}
		if len(members) == 0 && string(rest) != string(body) && !strings.Contains(string(body), "{") {
			t.Fatalf("%q lost something without a name", body)
		}
		before, err := job.ParseSpec(body)
		if err != nil || !json.Valid(before.Workflow) { // a bare workflow that is no JSON is cut where it mentions extra_data
			return
		}
		after, err := job.ParseSpec(rest)
		if err != nil {
			t.Fatalf("%q became %q: %v", body, rest, err)
		}
		if len(after.ExtraData) > 0 {
			t.Fatalf("%q has %s left", body, after.ExtraData)
		}
		if _, bare := json.Marshal(before); bare == nil && string(before.Workflow) != string(body) && string(after.Workflow) != string(before.Workflow) {
			t.Fatalf("the workflow %s became %s", before.Workflow, after.Workflow)
		}
	})
}

func TestKeysBecomeMembersOfExtraData(t *testing.T) {
	t.Parallel()
	for want, in := range map[string][2]string{
		`{"k":"v","a":1}`: {`{"a":1}`, `{"k":"v"}`}, `{"k":"v"}`: {``, `{"k":"v"}`}, `{"a":1}`: {` { "a":1 } `, ``},
		`{}`: {`{}`, ``}, `{"a":1,"b":2}`: {`{"b":2}`, `{"a":1}`},
	} {
		got := string(job.Members(json.RawMessage(in[0]), json.RawMessage(in[1])))
		if strings.ReplaceAll(got, " ", "") != want {
			t.Errorf("%s and %s give %s, want %s", in[0], in[1], got, want)
		}
	}
	for body, want := range map[string]bool{
		`{"api_keys":true,"workflow":{}}`: true, `{"api_keys":false}`: false, `{"metadata":{"api_keys":true}}`: false, `x"api_keys"`: false, `{}`: false,
	} {
		if job.HasAPIKeys([]byte(body)) != want {
			t.Errorf("%s: want %t", body, want)
		}
	}
}
