package internal_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

const (
	maxRooms = 18

	namesake = "github.com/nats-io/nats.go/jetstream"
)

// floor0 are the pure rooms: no clock, no I/O, no goroutines, no logger.
var floor0 = []string{"internal/failure", "internal/job", "internal/names", "internal/route", "internal/workflow"}

// mayImport is the table: a room and what it may import besides the standard library.
// A room of ours stands without the module's path; a module stands for all its packages.
var mayImport = map[string][]string{
	"internal":          {},
	"internal/failure":  {},
	"internal/workflow": {"github.com/cespare/xxhash/v2"},
	"internal/job":      {"internal/workflow", "internal/failure", "github.com/google/uuid"},
	"internal/route":    {"internal/workflow", "internal/failure", "internal/job", "github.com/cespare/xxhash/v2"},
	"internal/names":    {"internal/job", "internal/workflow"},
	"jetstream": {
		"internal/names", "internal/job", "internal/route", "internal/failure", "internal/workflow", "github.com/nats-io/nats.go",
	},
	"internal/queue": with(floor0, "jetstream", "github.com/nats-io/nats.go"),
	"internal/comfy": {
		"internal/workflow", "internal/failure",
		"github.com/gorilla/websocket", "github.com/google/uuid", "golang.org/x/sync",
	},
	"internal/comfysim": {"github.com/gorilla/websocket", "github.com/google/uuid"},
	"internal/daemon": {
		"internal/job", "internal/route", "internal/failure",
		"github.com/nats-io/nats.go", "github.com/prometheus/client_golang", "github.com/alecthomas/kong", "golang.org/x/sync",
		"github.com/nats-io/nkeys", "golang.org/x/term", "github.com/vbauerster/mpb/v8",
	},
	"internal/natsserver": {
		"internal/job", "internal/names",
		"github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/nats-io/jwt/v2", "github.com/nats-io/nkeys",
	},
	"internal/dispatcher": with(floor0, "jetstream", "internal/queue", "github.com/prometheus/client_golang", "golang.org/x/sync"),
	"internal/agent": with(floor0, "jetstream", "internal/queue", "internal/comfy", "internal/outside",
		"github.com/prometheus/client_golang", "golang.org/x/image", "golang.org/x/sync", "github.com/google/uuid", "lukechampine.com/blake3"),
	"internal/gateway": with(floor0, "jetstream", "internal/queue",
		"github.com/gorilla/websocket", "github.com/google/uuid", "github.com/prometheus/client_golang", "golang.org/x/sync", "lukechampine.com/blake3"),
	"internal/dashboard": with(floor0, "jetstream", "internal/queue", "github.com/prometheus/client_golang"),
	"internal/outside":   with(floor0, "jetstream", "internal/queue", "github.com/prometheus/client_golang", "golang.org/x/sync"),
	"internal/trace":     with(floor0, "internal/queue", "go.opentelemetry.io/otel", "go.opentelemetry.io/proto/otlp", "github.com/prometheus/client_golang", "golang.org/x/sync"),
	"internal/bench":     with(command, "internal/gateway", "github.com/nats-io/nats.go", "github.com/gorilla/websocket"),
	"internal/demo":      command,
	"cmd/dispatcher":     with(command, "internal/bench", "internal/demo", "internal/gateway", "internal/dashboard", "internal/outside", "internal/trace"),
	"cmd/agent":          {"internal/agent", "internal/daemon", "internal/queue", "github.com/nats-io/nats.go", "github.com/alecthomas/kong"}, // no server of NATS
	"examples/service":   {"jetstream", "github.com/nats-io/nats.go"},
	"examples/advanced":  with(command, "examples/advanced/operator"),

	"examples/advanced/operator": {"jetstream", "github.com/nats-io/nats.go"},
	"test/integration":           with(command, "internal/gateway", "github.com/nats-io/nats-server/v2", "github.com/getkin/kin-openapi", "lukechampine.com/blake3", "google.golang.org/protobuf", "go.opentelemetry.io/proto/otlp"),
	"test/gateway":               with(command, "internal/gateway", "github.com/gorilla/websocket"),
	"test/browser":               with(command, "internal/dashboard", "github.com/chromedp/chromedp", "github.com/chromedp/cdproto"),
	"test/chaos":                 with(command, "github.com/nats-io/nats-server/v2"),
	"test/growth":                with(command, "internal/bench"),
	"test/mutate":                {},
	"test/docs":                  with(command, "internal/gateway", "github.com/nats-io/nats-server/v2"),
}

// command is what a command may import: every room below, and what talks to people.
var command = with(floor0,
	"jetstream", "internal/queue", "internal/comfy", "internal/comfysim", "internal/daemon", "internal/natsserver",
	"internal/dispatcher", "internal/agent", "internal/dashboard", "internal/outside", "internal/trace",
	"github.com/nats-io/nats.go", "github.com/prometheus/client_golang", "golang.org/x/sync",
	"github.com/google/uuid", "github.com/alecthomas/kong")

// testsMayImport is what every room's tests may import in addition, and onTheWire what
// tests outside floor 0 may: a real NATS, a simulated ComfyUI, and the documentation.
var (
	testsMayImport = []string{"github.com/google/go-cmp", "go.uber.org/goleak"}
	onTheWire      = []string{
		"internal/natsserver", "internal/comfysim", "internal/daemon", "test/docs",
		"github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/nats-io/jwt/v2", "github.com/nats-io/nkeys",
	}
)

// notPure are the standard packages that a pure room has no business with.
var notPure = []string{"os", "net", "log", "io/ioutil", "syscall", "testing/synctest"}

// notPureTime are the functions of package time that read the clock or wait.
var notPureTime = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

// allowedAtTop is all that the root of the repository holds.
var allowedAtTop = []string{
	".ci", ".dockerignore", ".github", ".gitignore", ".golangci.yml", "CHANGELOG.md", "Dockerfile", "deploy", "LICENSE", "Makefile",
	"README.md", "cmd", "docker-compose.yml", "docs", "examples", "go.mod", "go.sum", "internal", "jetstream", "test",
}

// namesakeNames are names of the namesake that a reader would take for it; jetstream and queue export none of them.
var namesakeNames = []string{
	"AccountInfo", "Consumer", "ConsumerConfig", "ConsumerInfo", "JetStream", "KeyValue", "KeyValueConfig", "KeyValueEntry",
	"KeyValueManager", "KeyWatcher", "MessageBatch", "Msg", "MsgMetadata", "New", "NewWithAPIPrefix", "NewWithDomain",
	"ObjectInfo", "ObjectStore", "ObjectStoreConfig", "OrderedConsumer", "PubAck", "PubAckFuture", "Publisher", "PushConsumer",
	"RawStreamMsg", "Stream", "StreamConfig", "StreamInfo", "StreamManager",
}

func with(base []string, more ...string) []string { return slices.Concat(base, more) }

// importProblems holds the table of imports true.
func importProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		allowed, known := mayImport[f.dir]
		if !known {
			problems = append(problems, f.path+": the folder is not in the table of imports")
			continue
		}
		pure := slices.Contains(floor0, f.dir)
		if f.test {
			allowed = with(allowed, testsMayImport...)
			if !pure {
				allowed = with(allowed, onTheWire...)
			}
			if strings.HasPrefix(f.dir, "examples/") { // a fleet to run on
				allowed = with(allowed, command...)
			}
			if f.dir == "jetstream" { // what answers the calls of its Client
				allowed = with(allowed, "internal/queue")
			}
		}
		for path, name := range f.imports() {
			if why := judgeImport(f, path, name, allowed); why != "" {
				problems = append(problems, fmt.Sprintf("%s: imports %s: %s", f.path, path, why))
			}
		}
	}
	return problems
}

func judgeImport(f goFile, path, name string, allowed []string) string {
	own, ours := strings.CutPrefix(path, module)
	switch {
	case ours && own == f.dir && f.test:
		return ""
	case isStd(path):
		return ""
	case within(path, namesake) && f.dir != "internal/queue" && f.dir != "internal/bench": // bench measures the bare thing
		return "only internal/queue may"
	case path == namesake && name != "natsjs":
		return "import it as natsjs, so that nobody takes it for our own"
	case ours && slices.Contains(allowed, own):
		return ""
	case !ours && slices.ContainsFunc(allowed, func(a string) bool { return within(path, a) }):
		return ""
	}
	return "the table does not allow it"
}

// purityProblems finds what a pure room does besides computing. Its tests are free to.
func purityProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		if f.test || !slices.Contains(floor0, f.dir) {
			continue
		}
		say := func(n ast.Node, what string) {
			problems = append(problems, fmt.Sprintf("%s:%d: %s in a pure room", f.path, f.line(n), what))
		}
		for path := range f.imports() {
			if path != "net/url" && slices.ContainsFunc(notPure, func(p string) bool { return within(path, p) }) {
				say(f.ast, "imports "+path)
			}
		}
		for n := range ast.Preorder(f.ast) {
			switch n := n.(type) {
			case *ast.GoStmt:
				say(n, "starts a goroutine")
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(notPureTime, n.Sel.Name) {
					say(n, "calls time."+n.Sel.Name)
				}
			}
		}
	}
	return problems
}

// planProblems compares the plan's rooms with the folders that hold Go files.
func planProblems(t tree) []string {
	var problems []string
	planned := t.entries()
	built := map[string]bool{}
	for _, f := range t.files {
		built[f.dir] = true
	}
	for dir := range built {
		if !planned[dir] {
			problems = append(problems, dir+": has no line in internal/doc.go that says what it is for")
		}
	}
	for room := range mayImport {
		if !built[room] {
			problems = append(problems, room+": is in the table of imports and holds no Go file")
		}
	}
	return problems
}

// floorProblems counts the rooms that the plan's picture has on the floors, also those that are yet to come.
func floorProblems(t tree) []string {
	rooms := map[string]bool{}
	onFloors := false
	for line := range strings.Lines(t.plan) {
		switch line = strings.TrimPrefix(strings.TrimSpace(line), "//"); {
		case strings.HasPrefix(line, "\tfloor "):
			onFloors = true
		case strings.HasPrefix(line, "\tbeside "), strings.TrimSpace(line) == "":
			onFloors = false
		}
		if !onFloors {
			continue
		}
		for _, room := range roomName.FindAllString(line, -1) {
			rooms[room] = true
		}
	}
	if len(rooms) > maxRooms {
		return []string{fmt.Sprintf("internal/doc.go: %d rooms stand on the floors, at most %d: join two of them", len(rooms), maxRooms)}
	}
	return nil
}

var roomName = regexp.MustCompile(`\b(internal/[a-z]+|cmd/[a-z]+|jetstream)\b`)

// dependencyProblems compares the plan's dependencies with the modules that the tree imports.
func dependencyProblems(t tree) []string {
	used := map[string]bool{}
	for _, f := range t.files {
		for path := range f.imports() {
			if mod := t.moduleOf(path); mod != "" {
				used[mod] = true
			}
		}
	}
	var problems []string
	planned := t.entries()
	for _, mod := range t.modules() {
		if used[mod] && !planned[mod] {
			problems = append(problems, mod+": is imported and has no line in internal/doc.go that says why")
		}
		if !used[mod] && planned[mod] {
			problems = append(problems, mod+": has a line in internal/doc.go and is not imported")
		}
	}
	return problems
}

func (t tree) moduleOf(path string) string {
	best := ""
	for _, mod := range t.modules() {
		if within(path, mod) && len(mod) > len(best) {
			best = mod
		}
	}
	return best
}

func topProblems(t tree) []string {
	var problems []string
	for _, name := range t.top {
		if !slices.Contains(allowedAtTop, name) {
			problems = append(problems, name+": does not belong at the root of the repository")
		}
	}
	return problems
}

// namesakeProblems finds what would have a reader take our jetstream, or the queue behind it, for the namesake: its names, or its
// types in a signature.
func namesakeProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		if f.test || f.dir != "jetstream" && f.dir != "internal/queue" {
			continue
		}
		for _, decl := range f.ast.Decls {
			for _, e := range exported(decl) {
				if slices.Contains(namesakeNames, e.name) && !e.method {
					problems = append(problems, fmt.Sprintf("%s:%d: exports %s, a name of %s", f.path, f.line(e.node), e.name, namesake))
				}
				if mentions(e.surface, "natsjs") {
					problems = append(problems, fmt.Sprintf("%s:%d: %s shows a type of %s", f.path, f.line(e.node), e.name, namesake))
				}
			}
		}
	}
	return problems
}

// export is one exported name and the expressions that its users see.
type export struct {
	name    string
	method  bool
	node    ast.Node
	surface []ast.Node
}

func exported(decl ast.Decl) []export {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			return []export{{d.Name.Name, d.Recv != nil, d, []ast.Node{d.Type}}}
		}
	case *ast.GenDecl:
		if d.Tok != token.IMPORT {
			return exportedSpecs(d.Specs)
		}
	}
	return nil
}

func exportedSpecs(specs []ast.Spec) []export {
	var found []export
	for _, spec := range specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				found = append(found, export{s.Name.Name, false, s, visible(s.Type)})
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Type != nil {
					found = append(found, export{name.Name, false, s, []ast.Node{s.Type}})
				} else if name.IsExported() {
					found = append(found, export{name.Name, false, s, nil})
				}
			}
		}
	}
	return found
}

// visible is a type as its users see it: of a struct only the exported and embedded fields.
func visible(typ ast.Expr) []ast.Node {
	s, ok := typ.(*ast.StructType)
	if !ok {
		return []ast.Node{typ}
	}
	var found []ast.Node
	for _, field := range s.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			found = append(found, field.Type)
		}
	}
	return found
}

func receiverExported(recv *ast.FieldList) bool {
	typ := recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

func mentions(surface []ast.Node, pkg string) bool {
	for _, root := range surface {
		for n := range ast.Preorder(root) {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
					return true
				}
			}
		}
	}
	return false
}
