package internal_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// rules are what the house demands; each returns the places that break it.
var rules = map[string]func(tree) []string{
	"RoomsImportOnlyWhatTheTableAllows":  importProblems,
	"PureRoomsOnlyCompute":               purityProblems,
	"EveryFolderHasALineInThePlan":       planProblems,
	"TheFloorsHaveFewRooms":              floorProblems,
	"EveryDependencyHasAReason":          dependencyProblems,
	"TheRootHoldsOnlyWhatBelongsThere":   topProblems,
	"JetstreamIsNotMistakenForItsDouble": namesakeProblems,
	"TheWalksNameWhatIsThere":            walkProblems,
	"TheListsOfFilesAreWhole":            listProblems,
}

func TestTheHouseIsAsPlanned(t *testing.T) {
	t.Parallel()
	house := load(t, os.DirFS(".."))
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems := rule(house)
			slices.Sort(problems)
			for _, p := range problems {
				t.Error(p)
			}
		})
	}
}

// Every rule is shown a house that breaks it, so that a rule which finds nothing has looked.
func TestEveryRuleBites(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule string
		path string
		src  string
		want string // empty: the rule has nothing to say
	}{
		"DownIsAllowed":              {"RoomsImportOnlyWhatTheTableAllows", "jetstream/a.go", `import _ "github.com/comfyherd/comfyherd/internal/job"`, ""},
		"UpIsNot":                    {"RoomsImportOnlyWhatTheTableAllows", "internal/job/a.go", `import _ "github.com/comfyherd/comfyherd/internal/route"`, "does not allow"},
		"NeighboursOnFloorOneAreNot": {"RoomsImportOnlyWhatTheTableAllows", "internal/comfy/a.go", `import _ "github.com/comfyherd/comfyherd/jetstream"`, "does not allow"},
		"ClientInAnActor":            {"RoomsImportOnlyWhatTheTableAllows", "internal/agent/a.go", `import _ "github.com/nats-io/nats.go"`, "does not allow"},
		"ClientInAnActorsTest":       {"RoomsImportOnlyWhatTheTableAllows", "internal/agent/a_test.go", `import _ "github.com/nats-io/nats.go"`, ""},
		"DocsInACommandsTest":        {"RoomsImportOnlyWhatTheTableAllows", "cmd/agent/a_test.go", `import _ "github.com/comfyherd/comfyherd/test/docs"`, ""},
		"DocsInACommand":             {"RoomsImportOnlyWhatTheTableAllows", "cmd/agent/a.go", `import _ "github.com/comfyherd/comfyherd/test/docs"`, "does not allow"},
		"ClientInAPureTest":          {"RoomsImportOnlyWhatTheTableAllows", "internal/job/a_test.go", `import _ "github.com/nats-io/nats.go"`, "does not allow"},
		"NamesakeElsewhere":          {"RoomsImportOnlyWhatTheTableAllows", "internal/daemon/a.go", `import natsjs "github.com/nats-io/nats.go/jetstream"`, "only internal/queue may"},
		"NamesakeInATest":            {"RoomsImportOnlyWhatTheTableAllows", "test/integration/a_test.go", `import natsjs "github.com/nats-io/nats.go/jetstream"`, "only internal/queue may"},
		"NamesakeUnnamed":            {"RoomsImportOnlyWhatTheTableAllows", "internal/queue/a.go", `import "github.com/nats-io/nats.go/jetstream"`, "as natsjs"},
		"WebsocketElsewhere":         {"RoomsImportOnlyWhatTheTableAllows", "cmd/agent/a.go", `import _ "github.com/gorilla/websocket"`, "does not allow"},
		"SimilarModule":              {"RoomsImportOnlyWhatTheTableAllows", "jetstream/a.go", `import _ "github.com/nats-io/nats.gopher"`, "does not allow"},
		"UnknownRoom":                {"RoomsImportOnlyWhatTheTableAllows", "internal/util/a.go", ``, "not in the table"},
		"Clock":                      {"PureRoomsOnlyCompute", "internal/route/a.go", `import "time"; var _ = time.Now`, "calls time.Now"},
		"Duration":                   {"PureRoomsOnlyCompute", "internal/route/a.go", `import "time"; const _ = time.Second`, ""},
		"ClockInATest":               {"PureRoomsOnlyCompute", "internal/route/a_test.go", `import "time"; var _ = time.Now`, ""},
		"Goroutine":                  {"PureRoomsOnlyCompute", "internal/failure/a.go", `func f() { go f() }`, "starts a goroutine"},
		"Logger":                     {"PureRoomsOnlyCompute", "internal/job/a.go", `import _ "log/slog"`, "imports log/slog"},
		"File":                       {"PureRoomsOnlyCompute", "internal/workflow/a.go", `import _ "os"`, "imports os"},
		"NewFolder":                  {"EveryFolderHasALineInThePlan", "internal/util/a.go", ``, "internal/util: has no line"},
		"ManyRooms":                  {"TheFloorsHaveFewRooms", "internal/doc.go", plan(19), "19 rooms"},
		"FewRooms":                   {"TheFloorsHaveFewRooms", "internal/doc.go", plan(18), ""},
		"UnexplainedModule":          {"EveryDependencyHasAReason", "cmd/agent/a.go", `import _ "example.com/new/sub"`, "example.com/new: is imported"},
		"UnusedReason":               {"EveryDependencyHasAReason", "cmd/agent/a.go", ``, "example.com/old: has a line"},
		"Stray":                      {"TheRootHoldsOnlyWhatBelongsThere", "notes.txt", ``, "notes.txt: does not belong"},
		"Ignored":                    {"TheRootHoldsOnlyWhatBelongsThere", "bin/agent", ``, ""},
		"LinkedWorkTree":             {"TheRootHoldsOnlyWhatBelongsThere", ".git", ``, ""},
		"NamesakesName":              {"JetstreamIsNotMistakenForItsDouble", "jetstream/a.go", `type Stream struct{}`, "exports Stream"},
		"NamesakesNameAsMethod":      {"JetstreamIsNotMistakenForItsDouble", "jetstream/a.go", `type T int; func (T) Stream() {}`, ""},
		"NamesakesTypeAsResult":      {"JetstreamIsNotMistakenForItsDouble", "internal/queue/a.go", `type T int; func (*T) F() (natsjs.Msg, error)`, "F shows a type"},
		"NamesakesTypeInAField":      {"JetstreamIsNotMistakenForItsDouble", "jetstream/a.go", `type T struct{ M natsjs.Msg }`, "T shows a type"},
		"WalkOfToday":                {"TheWalksNameWhatIsThere", "jetstream/a.go", `type T int; func (T) Submit() {}; func ask() {}`, ""},
		"WalkToALostFunction":        {"TheWalksNameWhatIsThere", "jetstream/a.go", `func ask() {}`, "has no function Submit"},
		"ListedFile":                 {"TheListsOfFilesAreWhole", "internal/agent/a.go", ``, ""},
		"UnlistedFile":               {"TheListsOfFilesAreWhole", "internal/agent/b.go", ``, "b.go: does not stand in the list"},
		"ListOfALostFile":            {"TheListsOfFilesAreWhole", "internal/agent/b.go", ``, "names a.go, which does not exist"},
		"WalkToALostFile":            {"TheWalksNameWhatIsThere", "jetstream/b.go", `func Submit() {}`, "jetstream/a.go: does not exist"},
		"NamesakesTypeInside":        {"JetstreamIsNotMistakenForItsDouble", "jetstream/a.go", `type T struct{ m natsjs.Msg }; func (t T) f() natsjs.Msg`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			house := load(t, fstest.MapFS{
				".gitignore":            {Data: []byte("/bin/\n*.out\n")},
				"go.mod":                {Data: []byte("module m\nrequire (\n\texample.com/new v1.0.0 // indirect\n\texample.com/old v1.0.0\n)\n")},
				"internal/doc.go":       {Data: []byte("// Plan.\n//\n//\tinternal/route   pure and simple choices\n//\texample.com/old   was needed once\npackage internal\n")},
				"internal/agent/doc.go": {Data: []byte("// Package agent runs jobs:\n//\n//\ta.go   all of it\npackage agent\n")},
				"docs/architecture.md":  {Data: []byte("| file | function |\n|---|---|\n| `jetstream/a.go` | `Submit`, `ask` | as it was |\n")},

				tc.path: {Data: []byte("package a\n" + tc.src)},
			})
			var found []string
			for _, p := range rules[tc.rule](house) {
				if strings.Contains(p, tc.want) && (tc.want != "" || strings.HasPrefix(p, tc.path)) {
					found = append(found, p)
				}
			}
			if (len(found) > 0) != (tc.want != "") {
				t.Errorf("%s found %q, want %q", tc.rule, found, tc.want)
			}
		})
	}
}

// plan is one with so many rooms on its floors, and one beside them.
func plan(rooms int) string {
	text := "//\tfloor 1   "
	for n := range rooms {
		text += "internal/" + strings.Repeat("a", n+1) + " "
	}
	return text + "\n//\tbeside    internal/other\n"
}
