package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// picture is a workflow that every simulated host can run.
const picture = `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":16711680}},` +
	`"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"ComfyUI"}}}`

func TestFlagsWinOverTheFile(t *testing.T) {
	t.Parallel()
	envelope := `{"id":"mine","workflow":` + picture + `,"max_attempts":9,"prefer_hosts":["a"],"only_hosts":["b"],"metadata":{"n":1}}`
	specs, err := main.SubmitSpecs(t.Context(), strings.NewReader(envelope), "-", "--max-attempts=2", "--prefer=gpu=4090,c",
		"--expires-in=1h", "--at=2026-12-01T08:00:00Z", `--metadata={"order":17}`, "--record", "--frames", "--webhook=orders",
		"--set=1.inputs.width=128", "--set=1.color=18446744073709551615", "--set=9.inputs.filename_prefix=a cat, a=b")
	if err != nil {
		t.Fatal(err)
	}
	if len(specs) != 1 {
		t.Fatalf("%d specs", len(specs))
	}
	s := specs[0]
	if s.ID != "mine" || s.MaxAttempts != 2 || time.Duration(s.ExpiresIn) != time.Hour || s.RunAt.Unix() != 1796112000 || string(s.Metadata) != `{"order":17}` {
		t.Errorf("%+v", s)
	}
	if !s.Record || s.Live != "frames" || s.Webhook != "orders" {
		t.Errorf("record %v, live %q, webhook %q", s.Record, s.Live, s.Webhook)
	}
	if diff := cmp.Diff([][]string{{"gpu=4090", "c"}, {"b"}}, [][]string{s.PreferHosts, s.OnlyHosts}); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{`"width":128`, `"color":18446744073709551615`, `"filename_prefix":"a cat, a=b"`} {
		if !bytes.Contains(s.Workflow, []byte(want)) {
			t.Errorf("%s is missing in %s", want, s.Workflow)
		}
	}
}

func TestSeveralJobsOfOneIDAreNumbered(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "w.json")
	if err := os.WriteFile(file, []byte(picture), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want []job.ID
	}{
		"None":     {[]string{file, file}, []job.ID{"", ""}},
		"One":      {[]string{file, "--id=a"}, []job.ID{"a"}},
		"Count":    {[]string{file, "--id=a", "--count=3"}, []job.ID{"a-1", "a-2", "a-3"}},
		"TwoFiles": {[]string{file, file, "--id=a", "--count=2"}, []job.ID{"a-1", "a-2", "a-3", "a-4"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			specs, err := main.SubmitSpecs(t.Context(), nil, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]job.ID, 0, len(specs))
			for _, s := range specs {
				got = append(got, s.ID)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadJobsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		args []string
		want string
	}{
		"Empty":        {"", nil, "the message is empty"},
		"Junk":         {"junk", nil, "no JSON object"},
		"UIFormat":     {`{"nodes":[],"links":[]}`, nil, "Export (API)"},
		"NoClass":      {`{"1":{"inputs":{}}}`, nil, "class_type"},
		"UnknownNode":  {picture, []string{"--set=7.text=x"}, `no node "7"`},
		"UnknownInput": {picture, []string{"--set=1.inputs.widht=8"}, "node 1 (EmptyImage) has no input widht; it has batch_size, color, height, width"},
		"NoChange":     {picture, []string{"--set=7"}, "write it like --set '6.inputs.text=a cat'"},
		"Priority":     {picture, []string{"--priority=10"}, "--priority=10 is out of range; give 0 to 9"},
		"Tenant":       {picture, []string{"--tenant=a.b"}, `"a.b" is not a tenant name`},
		"LongTenant":   {picture, []string{"--tenant=" + strings.Repeat("a", 65)}, "is not a tenant name"},
		"ID":           {picture, []string{"--id=j-1"}, "not beginning with j-"},
		"Count":        {picture, []string{"--count=0"}, "--count=0 is out of range; give 1 or more"},
		"Metadata":     {picture, []string{"--metadata={"}, "is not JSON"},
		"AtAndIn":      {picture, []string{"--at=2026-12-01T08:00:00Z", "--in=1h"}, "give one of them"},
		"At":           {picture, []string{"--at=soon"}, `--at: "soon" is not a time`},
		"Host":         {picture, []string{"--only=a b"}, "neither a host name"},
		"InputFile":    {picture, []string{"--input=1.image=/does/not/exist.png"}, "there is no file"},
		"InputNode":    {picture, []string{"--input=5.image=/dev/null"}, "the workflow has no node 5"},
		"Timeout":      {picture, []string{"--timeout=5s"}, "add --wait"},
		"Misspelt":     {`{"workflow":` + picture + `,"prioritty":9,"prefer_host":["a"]}`, nil, "the job has unknown fields: prefer_host (did you mean prefer_hosts?), prioritty; correct them or leave them out"},
		"NotAField":    {`{"workflow":` + picture + `,"priority":9,"tenant":"acme"}`, nil, "the job has unknown fields: priority (use --priority), tenant (use --tenant); correct them or leave them out"},
		"WrongEnvelop": {`{"workflow":{},"max_attempts":"many"}`, nil, "max_attempts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := main.SubmitSpecs(t.Context(), strings.NewReader(tc.body), append([]string{"-"}, tc.args...)...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAnErrorSaysWhatIsWrongAndWhatToDoNext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"Command":  {[]string{"submt"}, "dispatcher: unexpected argument submt, did you mean \"submit\"?; see `dispatcher --help`\n"},
		"Flag":     {[]string{"submit", "x", "--tenat=a"}, "dispatcher: unknown flag --tenat, did you mean \"--tenant\"?; see `dispatcher submit --help`\n"},
		"File":     {[]string{"submit", "/does/not/exist"}, "dispatcher: open /does/not/exist: no such file or directory; give a workflow that was exported with Workflow → Export (API)\n"},
		"Folder":   {[]string{"submit", "/"}, "dispatcher: / is a folder; give the files in it\n"},
		"Out":      {[]string{"demo", "--out=/dev/null/x"}, "dispatcher: --out /dev/null/x: mkdir /dev/null: not a directory; choose a folder that can be written to\n"},
		"NoNATS":   {[]string{"hosts", "--nats-url=nats://127.0.0.1:1"}, "dispatcher: cannot reach NATS at nats://127.0.0.1:1: connection refused; start one with `dispatcher run --embedded` or set NATS_URL"},
		"Which":    {[]string{"blocks", "clear"}, "dispatcher: blocks clear: give --host, --hash or both, or --all; see `dispatcher blocks clear --help`\n"},
		"Hash":     {[]string{"blocks", "--hash=XY"}, "dispatcher: --hash: \"XY\" is not a hash; give 64 lower-case hex digits, or the first 8 or more of them; see `dispatcher blocks --help`\n"},
		"Letters":  {[]string{"dead", "requeue"}, "dispatcher: dead requeue: name the jobs, or give --tenant, --hash, --kind, --reason or --since, or --all; see `dispatcher dead requeue --help`\n"},
		"Password": {[]string{"demo", "--comfy-hosts=a=http://ok:1,htp://admin:s3cret@h:1"}, "dispatcher: entry 2 of COMFY_HOSTS is not the address of a ComfyUI; write it like"},
		"NotAFlag": {[]string{"demo", "http://admin:s3cret@h:1"}, "dispatcher: unexpected argument http://***@h:1; see `dispatcher demo --help`\n"},
		"Listen":   {[]string{"sim", "--listen=admin:s3cret@127.0.0.1:0"}, "dispatcher: start simulated ComfyUI: listen tcp: address ***@127.0.0.1:0: too many colons"},
		"Health":   {[]string{"health"}, "dispatcher: no address to ask for health; start the process with --http :8080 and give the same here\n"},
		"Affinity": {[]string{"affinity", "set", "nothing", "--prefer=a"}, "dispatcher: nothing is neither a hash nor a file; `dispatcher status JOB --json` shows the hash of a job\n"},
		"JobID":    {[]string{"status", "a b"}, "dispatcher: \"a b\" is not a job id; give 1 to 120 of A-Z a-z 0-9 _ -, or tenant/id\n"},
		"Weight":   {[]string{"tenants", "set", "acme", "--weight=0"}, "dispatcher: --weight=0 is out of range; give 0.001 to 1000000; see `dispatcher tenants set --help`\n"},
		"Model":    {[]string{"sim", "--listen=127.0.0.1:0", "--model=x"}, "dispatcher: --model \"x\" has no folder; write it like checkpoints/sd15.safetensors\n"},
		"Faults":   {[]string{"sim", "--listen=127.0.0.1:0", "--faults=[{\"kind\":\"x\"}]"}, "dispatcher: --faults: unknown fault kind \"x\"; write it like"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, err bytes.Buffer
			code := main.Run(t.Context(), tc.args, strings.NewReader(""), &out, &err)
			if code != 1 || !strings.HasPrefix(err.String(), tc.want) || out.Len() > 0 {
				t.Errorf("code %d, out %q, err %q, want %q", code, out.String(), err.String(), tc.want)
			}
		})
	}
}

func TestNoErrorShowsAPassword(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"demo", "--comfy-hosts=htp://admin:s3cret@h:1"},
		{"demo", "--comfy-hosts=admin:s3cret@h:1"},
		{"demo", "--comfy-hosts=http://admin:s3cret,@h:1"},
		{"demo", "--comfy-hosts=http://admin:a/s3cret@h:1"},
		{"demo", "--comfy-hosts=a=http://admin:s3cret@h:1,a=http://h:2"},
		{"demo", "--comfy-host=http://admin:s3cret@h:1"},
		{"demo", "http://admin:s3cret@h:1"},
		{"sim", "--listen=admin:s3cret@127.0.0.1:0"},
		{"sim", "--job-time=http://admin:s3cret@h:1"},
		{"http://admin:s3cret@h:1"},
		{"hosts", "--nats-url=nats://admin:s3cret@127.0.0.1:1"},
		{"hosts", "drain", "http://admin:s3cret@h:1"},
		{"run", "--preset=nats://admin:s3cret@h"},
	} {
		var out, say bytes.Buffer
		if code := main.Run(t.Context(), args, strings.NewReader(""), &out, &say); code != 1 || strings.Contains(out.String()+say.String(), "cret") {
			t.Errorf("%q ended with %d and says %s", args, code, say.String())
		}
	}
}

func TestHelpHasExamplesAndVersionOneLine(t *testing.T) {
	t.Parallel()
	var ask func(command *kong.Node, words []string)
	ask = func(command *kong.Node, words []string) {
		var out, err bytes.Buffer
		code := main.Run(t.Context(), append(slices.Clone(words), "--help"), nil, &out, &err)
		example := strings.Join(append([]string{"    dispatcher"}, words...), " ")
		if len(words) == 2 { // list is what its group does alone
			example = strings.TrimSuffix(example, " list")
		}
		if code != 0 || err.Len() > 0 || !strings.Contains(out.String(), "Examples:") || !strings.Contains(out.String(), example) {
			t.Errorf("%q: code %d, err %q, help without an example %q:\n%s", words, code, err.String(), example, out.String())
		}
		for _, child := range command.Children {
			if child.Type == kong.CommandNode {
				ask(child, append(slices.Clone(words), child.Name))
			}
		}
	}
	ask(commandLine(t).Model.Node, nil)
	var out, err bytes.Buffer
	if code := main.Run(t.Context(), []string{"--version"}, nil, &out, &err); code != 0 || !strings.HasPrefix(out.String(), "comfyherd dispatcher ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("code %d, version %q", code, out.String())
	}
	out.Reset()
	if code := main.Run(t.Context(), nil, nil, &out, &err); code != 0 || !strings.Contains(out.String(), "Usage: dispatcher <command>") {
		t.Errorf("nothing asked: code %d, %q", code, out.String())
	}
}

func TestWhatIsPublishedIsWhatWasWritten(t *testing.T) {
	t.Parallel()
	specs, err := main.SubmitSpecs(t.Context(), strings.NewReader(`{"prompt":`+picture+`,"extra_data":{"k":"v"}}`), "-")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(specs[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"workflow":` + picture + `,"extra_data":{"k":"v"}}`; string(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}
