package docs_test

import (
	"go/ast"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
	"github.com/comfyherd/comfyherd/test/docs"
)

// tables are the structs whose fields have a table of their own, shapes those that have a row.
var (
	tables = map[string]reflect.Type{"job.Spec": reflect.TypeFor[job.Spec](), "job.Event": reflect.TypeFor[job.Event]()}
	shapes = named(
		job.Input{}, job.Timeouts{}, job.Output{}, failure.Attempt{}, route.Block{}, queue.Catalog{}, queue.PageRequest{}, queue.Asset{}, queue.Blob{}, route.HostVerdict{}, route.LaneStat{},
		jetstream.Progress{}, queue.Unblocked{}, queue.HostEvent{}, queue.HostState{}, queue.RunningJob{}, queue.Blame{}, queue.HostCondition{}, queue.HostGrant{}, queue.Rest{}, queue.StruckPair{},
		queue.EndedJob{}, queue.ModelLoad{}, queue.DispatcherState{}, queue.Affinity{}, queue.TenantSettings{}, queue.Slot{}, queue.Ticket{},
		queue.Reply{}, queue.Control{}, queue.HostInfo{}, queue.HostAttempt{}, jetstream.EventRow{}, queue.AuditRecord{},
		jetstream.JobRow{}, jetstream.EventNote{}, jetstream.Mark{},
		jetstream.WaitingRow{}, jetstream.WorkflowRow{}, jetstream.DeadGroup{}, queue.Rate{}, queue.SlotCounts{}, queue.PairCounts{}, queue.TenantCounts{},
		queue.StoreCounts{}, queue.Need{}, queue.Setting{},
		jetstream.Webhook{}, jetstream.WebhookTry{}, queue.WebhookSettings{}, queue.WebhookKey{}, queue.Undelivered{},
	)
	calls = named(
		jetstream.JobsRequest{}, jetstream.JobsAnswer{}, jetstream.EventsRequest{}, jetstream.EventsAnswer{},
		jetstream.StatusRequest{}, jetstream.CancelRequest{}, queue.HostsRequest{}, jetstream.QueueRequest{}, queue.BlocksRequest{}, queue.UnblockRequest{}, jetstream.DeadRequest{}, jetstream.RequeueRequest{}, queue.DrainRequest{},
		queue.AffinityRequest{}, queue.TenantsRequest{}, jetstream.WhyRequest{},
		jetstream.JobStatus{}, jetstream.CancelAnswer{}, queue.HostsAnswer{}, queue.BlocksAnswer{},
		queue.CountAnswer{}, queue.DrainAnswer{}, queue.PurgeRequest{}, queue.PurgeAnswer{}, jetstream.DeadAnswer{}, jetstream.RequeueAnswer{}, queue.AffinityAnswer{},
		queue.TenantsAnswer{}, jetstream.WhyAnswer{}, jetstream.QueueAnswer{},
		jetstream.APIKeys{}, jetstream.APIKeysAnswer{}, jetstream.FileRequest{}, jetstream.File{}, jetstream.FileAnswer{}, jetstream.FilePut{}, jetstream.FilePutAnswer{},
		jetstream.JobStory{}, jetstream.WaitingRequest{}, jetstream.WaitingAnswer{}, jetstream.WorkflowsRequest{}, jetstream.WorkflowsAnswer{},
		queue.OverviewRequest{}, queue.OverviewAnswer{}, queue.DispatchersRequest{}, queue.DispatchersAnswer{}, queue.SettingsRequest{}, queue.SettingsAnswer{},
		jetstream.WebhooksRequest{}, jetstream.WebhooksAnswer{}, jetstream.SetWebhookRequest{}, jetstream.SetWebhookAnswer{}, jetstream.RemoveWebhookRequest{}, jetstream.RemoveWebhookAnswer{},
		jetstream.RotateWebhookRequest{}, jetstream.TestWebhookRequest{}, jetstream.TestWebhookAnswer{}, jetstream.RedeliverRequest{}, jetstream.RedeliverAnswer{},
	)
	// headers are what carries the requests and answers of which bytes are the body.
	headers = map[string][]string{
		"FileAnswer":    {"Comfy-File-Size", "Comfy-File-Digest", "Comfy-Offset", "Comfy-Cursor", "Comfy-In-Order", "Content-Type"},
		"FilePut":       {"Comfy-File", "Comfy-Upload", "Comfy-Offset", "Comfy-Cursor", "Comfy-File-Size", "Comfy-Last", "Comfy-File-Digest", "Content-Type"},
		"FilePutAnswer": {"Comfy-Offset", "Comfy-Cursor", "name", "size", "digest", "content_type"},
	}
)

// parts are the names of what a request or answer has.
func parts(typ string) []string {
	if names, are := headers[typ]; are {
		return names
	}
	return namesOf(calls[typ])
}

func named(values ...any) map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for _, v := range values {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	return types
}

func contract(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(root + "/docs/contract.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// same compares sets of names and names what is missing on either side.
func same(t *testing.T, what string, documented, actual []string) {
	t.Helper()
	for _, name := range actual {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: %s is missing in docs/contract.md", what, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(actual, name) {
			t.Errorf("%s: docs/contract.md names %s, which does not exist", what, name)
		}
	}
}

// column gives the code in one column of a table.
func column(rows []docs.Row, n int) []string {
	var found []string
	for _, row := range rows {
		found = append(found, docs.Code(row[n])...)
	}
	return found
}

func TestEveryHeaderIsDocumented(t *testing.T) {
	t.Parallel()
	var actual []string
	for name, value := range read(t, "internal/names").constants() {
		if strings.HasSuffix(name, "Header") {
			actual = append(actual, value)
		}
	}
	for _, text := range read(t, "internal/queue").literals() {
		if strings.HasPrefix(text, "ce-") && !slices.Contains(actual, text) {
			actual = append(actual, text)
		}
	}
	page := contract(t)
	same(t, "header", column(docs.Table(page, "headers"), 0), actual)
	known := append(actual, micro.ErrorHeader, micro.ErrorCodeHeader)
	for _, code := range docs.Code(docs.Prose(page)) {
		if regexp.MustCompile(`^(Comfy|Nats|KV|ce)-`).MatchString(code) && !slices.Contains(known, code) {
			t.Errorf("docs/contract.md names the header %s, which does not exist", code)
		}
	}
}

func TestEveryStreamAndBucketIsDocumented(t *testing.T) {
	t.Parallel()
	var actual []string
	for name, value := range read(t, "internal/names").constants() {
		if strings.HasSuffix(name, "Stream") || strings.HasSuffix(name, "Bucket") || strings.HasSuffix(name, "Store") {
			actual = append(actual, value)
		}
	}
	page := contract(t)
	same(t, "stream, bucket or store", column(docs.Table(page, "streams"), 0), actual)
	for _, name := range regexp.MustCompile(`COMFY_[A-Z]+`).FindAllString(page, -1) {
		if !slices.Contains(actual, name) {
			t.Errorf("docs/contract.md names %s, which does not exist", name)
		}
	}
	if !strings.Contains(page, "`"+names.APIName+"`") {
		t.Errorf("docs/contract.md does not name the micro service %s", names.APIName)
	}
}

func TestEverySubjectIsDocumented(t *testing.T) {
	t.Parallel()
	code := read(t, "internal/names", "internal/queue", "jetstream")
	var actual []string
	for _, subject := range append(slices.Collect(maps.Values(code.constants())), read(t, "internal/names").built()...) {
		if strings.HasPrefix(subject, "comfy.") && strings.Count(subject, ".") > 1 && !strings.HasPrefix(subject, "comfy.job.") &&
			!strings.HasPrefix(subject, "comfy.block.") && !strings.HasPrefix(subject, "comfy.host.") && !strings.HasPrefix(subject, "comfy.operator.") &&
			!strings.HasPrefix(subject, "comfy.webhook.") {
			actual = append(actual, subject)
		}
	}
	documented := column(docs.Table(contract(t), "subjects"), 0)
	if len(actual) < 15 || len(documented) < 12 {
		t.Fatalf("only %d subjects in the code and %d in the page", len(actual), len(documented))
	}
	for _, subject := range actual {
		if !slices.ContainsFunc(documented, func(d string) bool { return meets(subject, d) }) {
			t.Errorf("subject %s is missing in docs/contract.md", subject)
		}
	}
	words := code.words()
	for _, subject := range documented {
		if !slices.ContainsFunc(actual, func(r string) bool { return meets(r, subject) }) {
			t.Errorf("docs/contract.md names the subject %s, which does not exist", subject)
		}
		for word := range strings.SplitSeq(subject, ".") {
			if !open(word) && !words[word] {
				t.Errorf("docs/contract.md names %s, but no subject has the word %q", subject, word)
			}
		}
	}
}

// words are all words between dots of the package's strings.
func (s source) words() map[string]bool {
	words := map[string]bool{}
	for _, text := range s.literals() {
		for word := range strings.SplitSeq(text, ".") {
			words[word] = true
		}
	}
	return words
}

// meets says whether some subject fits both patterns. One that ends with a dot is the beginning of longer ones.
func meets(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if x[i] == ">" || y[i] == ">" || i > 0 && (x[i] == "" || y[i] == "") {
			return true
		}
		if x[i] != y[i] && !open(x[i]) && !open(y[i]) {
			return false
		}
	}
	return len(x) == len(y)
}

func open(word string) bool { return word == "*" || word == ">" || strings.HasPrefix(word, "<") }

func TestPatternsMeet(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]bool{
		{"comfy.hosts.<>.offer", "comfy.hosts.<host>.offer"}:  true,
		{"comfy.hosts.<>.offer", "comfy.hosts.<host>.offers"}: false,
		{"comfy.hosts.<>.offer", "comfy.hosts.<host>"}:        false,
		{"comfy.api.", "comfy.api.<call>"}:                    true,
		{"comfy.events.>", "comfy.events.jobs.<a>.<b>.<c>"}:   true,
		{"comfy.jobs.*.<>", "comfy.jobs.<tenant>.<priority>"}: true,
		{"comfy.dead.*", "comfy.jobs.<tenant>"}:               false,
	} {
		if meets(pair[0], pair[1]) != want {
			t.Errorf("%q: want %v", pair, want)
		}
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	t.Parallel()
	page := contract(t)
	same(t, "table of fields", docs.Markers(page, "fields"), slices.Collect(maps.Keys(tables)))
	for name, typ := range tables {
		want := map[string]string{}
		for _, f := range fields(typ) {
			want[f.name] = f.kind
		}
		got := map[string]string{}
		for _, row := range docs.Table(page, "fields: "+name) {
			got[strings.Join(docs.Code(row[0]), " ")] = row[1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("fields of %s, code (-) and docs/contract.md (+):\n%s", name, diff)
		}
	}
}

func TestEveryShapeIsDocumented(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, row := range docs.Table(contract(t), "shapes") {
		documented = append(documented, row[0])
		typ, known := shapes[row[0]]
		if !known {
			continue
		}
		said := slices.DeleteFunc(docs.Code(row[2]), func(code string) bool { return strings.HasPrefix(code, "COMFY_") })
		if row[0] == "HostInfo" { // a HostState and more, as its row says
			said = append(said, namesOf(shapes["HostState"])...)
		}
		same(t, "field of "+row[0], said, namesOf(typ))
	}
	same(t, "shape", documented, slices.Collect(maps.Keys(shapes)))
}

func namesOf(typ reflect.Type) []string {
	var names []string
	for _, f := range fields(typ) {
		names = append(names, f.name)
	}
	return names
}

// A struct with JSON names in a room that writes on the wire cannot be forgotten.
func TestEveryWireTypeIsHeldAgainstTheDocs(t *testing.T) {
	t.Parallel()
	for dir, private := range map[string][]string{"jetstream": nil, "internal/queue": {"Relay"}, "internal/job": nil, "internal/dispatcher": nil} {
		for _, name := range read(t, dir).wireTypes() {
			_, isShape := shapes[name]
			_, isCall := calls[name]
			_, isTable := tables["job."+name]
			if !isShape && !isCall && !isTable && !slices.Contains(private, name) {
				t.Errorf("%s.%s is written as JSON; document it in docs/contract.md and name it here", dir, name)
			}
		}
	}
}

func TestEverySetOfValuesIsDocumented(t *testing.T) {
	t.Parallel()
	page := contract(t)
	rooms := map[string]string{
		"job": "internal/job", "route": "internal/route", "failure": "internal/failure", "queue": "internal/queue", "jetstream": "jetstream",
	}
	seen := docs.Markers(page, "values")
	for _, name := range seen {
		room, typ, _ := strings.Cut(name, ".")
		marked := docs.Marked(page, "values: "+name)
		said := docs.Code(marked)
		if rows := docs.Table(page, "values: "+name); rows != nil {
			said = column(rows, 0)
		}
		same(t, name, said, read(t, rooms[room]).values(typ))
	}
	same(t, "set of values", seen, []string{
		"job.EventKind", "route.HoldReason", "failure.Reason", "queue.UnblockCause", "queue.HostEventKind",
		"queue.Availability", "route.Code", "queue.Answer", "queue.Rule", "jetstream.Outcome",
	})
}

func TestEveryCallOfTheAPIIsDocumented(t *testing.T) {
	t.Parallel()
	said := map[string][]string{} // of each type of request, in any call
	for table, c := range map[string]struct {
		prefix, methods string
		makers          []string
	}{
		"api":          {"comfy.api.", "api", []string{"answering"}},
		"tenant calls": {"comfy.tenants.<tenant>.", "tenant", []string{"TenantJSON", "TenantFileGet", "TenantFilePut"}},
	} {
		checkCalls(t, docs.Table(contract(t), table), c.prefix, endpoints(t, c.makers, c.methods), said)
	}
	delete(said, "")
	for name, fields := range said {
		same(t, "request field of "+name, slices.Compact(slices.Sorted(slices.Values(fields))), parts(name))
	}
}

// checkCalls holds a table of calls against the types of their requests and answers, and notes what it says of requests.
func checkCalls(t *testing.T, rows []docs.Row, prefix string, actual map[string][2]string, said map[string][]string) {
	t.Helper()
	var documented []string
	for _, row := range rows {
		call := strings.TrimPrefix(docs.Code(row[0])[0], prefix)
		documented = append(documented, call)
		types, known := actual[call]
		if !known {
			continue
		}
		same(t, "answer of "+call, docs.Code(row[2]), parts(types[1]))
		for _, name := range docs.Code(row[1]) {
			if types[0] == "" || !slices.Contains(parts(types[0]), name) {
				t.Errorf("docs/contract.md has %q in a request %s, where nobody reads it", name, call)
			}
		}
		said[types[0]] = append(said[types[0]], docs.Code(row[1])...)
	}
	same(t, "call", documented, slices.Collect(maps.Keys(actual)))
}

// endpoints reads which calls there are, whose handlers are methods that begin with a word and are made endpoints of by one
// of the makers, and the types of their requests ("" for an empty one) and answers.
func endpoints(t *testing.T, makers []string, methods string) map[string][2]string {
	t.Helper()
	code := read(t, "internal/dispatcher")
	types := map[string][2]string{}
	for _, fn := range nodes[*ast.FuncDecl](code) {
		if params := fn.Type.Params.List; strings.HasPrefix(fn.Name.Name, methods) && fn.Recv != nil && len(params) >= 2 {
			types[fn.Name.Name] = [2]string{typeName(params[len(params)-1].Type), typeName(fn.Type.Results.List[0].Type)}
		}
	}
	found := map[string][2]string{}
	for _, pair := range nodes[*ast.KeyValueExpr](code) {
		name, isName := literal(pair.Key)
		call, isCall := pair.Value.(*ast.CallExpr)
		if !isName || !isCall || !slices.Contains(makers, typeName(call.Fun)) {
			continue
		}
		found[name] = types[call.Args[0].(*ast.SelectorExpr).Sel.Name]
	}
	for call, types := range found {
		for i, typ := range types {
			if _, known := calls[typ]; !known && (i != 0 || typ != "") {
				t.Errorf("call %s has the type %q, which this test does not know", call, typ)
			}
		}
	}
	return found
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
