package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/comfyherd/comfyherd/test/docs"
)

func TestEveryDiagramIsWellFormed(t *testing.T) {
	t.Parallel()
	seen := 0
	for name, page := range pages(t) {
		for i, diagram := range docs.Fenced(page, "mermaid") {
			seen++
			if err := docs.Mermaid(diagram); err != nil {
				t.Errorf("%s, diagram %d: %v", name, i+1, err)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d diagrams were seen", seen)
	}
}

func TestMermaidFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for diagram, good := range map[string]bool{
		"sequenceDiagram\nparticipant A\nparticipant B as The other\nA->>B: hello":             true,
		"sequenceDiagram\nparticipant A\nloop every second\nA-->>A: tick\nend":                 true,
		"sequenceDiagram\nparticipant A\nA->>B: hello":                                         false,
		"sequenceDiagram\nparticipant A\nA->>A hello":                                          false,
		"sequenceDiagram\nparticipant A\nalt one\nA->>A: hello":                                false,
		"sequenceDiagram\nparticipant A\nNote over A: text; more":                              false,
		"flowchart LR\na[\"one\"] -->|\"goes\"| b[\"two\"]\nb --> a":                           true,
		"flowchart LR\na[\"one\"] --> b":                                                       false,
		"flowchart\na[\"one\"] --> a":                                                          false,
		"flowchart LR\na[one (1)] --> a":                                                       false,
		"stateDiagram-v2\n[*] --> queued\nqueued --> started: offer accepted\nstarted --> [*]": true,
		"stateDiagram-v2\n[*] --> queued\nlost --> queued":                                     false,
		"stateDiagram-v2\nqueued -> started":                                                   false,
		"pie\n\"a\": 1":                                                                        false,
	} {
		if err := docs.Mermaid(diagram); (err == nil) != good {
			t.Errorf("%q: %v", diagram, err)
		}
	}
}

func TestEveryAnchorExists(t *testing.T) {
	t.Parallel()
	all := pages(t)
	seen := 0
	for name, page := range all {
		for _, match := range link.FindAllStringSubmatch(docs.Prose(page), -1) {
			target, err := url.Parse(match[1])
			if err != nil || target.IsAbs() || target.Fragment == "" {
				continue
			}
			of := name
			if target.Path != "" {
				of = path.Join(path.Dir(name), target.Path)
			}
			if other, known := all[of]; known {
				seen++
				if !docs.Anchors(other)[target.Fragment] {
					t.Errorf("%s links to %s, where no heading makes this anchor", name, match[1])
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d anchors were seen", seen)
	}
}

func TestAnchorsAreThoseOfGitHub(t *testing.T) {
	t.Parallel()
	anchors := docs.Anchors("# A job, and `COMFY_JOBS`\n\n## What's new?\n## What's new?\n\n```sh\n# no heading\n```\n")
	for _, want := range []string{"a-job-and-comfy_jobs", "whats-new", "whats-new-1"} {
		if !anchors[want] {
			t.Errorf("%s is missing in %v", want, anchors)
		}
	}
	if len(anchors) != 3 {
		t.Errorf("got %v", anchors)
	}
}

// Every page of the folder can be found from the start page.
func TestTheStartPageLeadsToEveryPage(t *testing.T) {
	t.Parallel()
	all := pages(t)
	if !strings.Contains(all["README.md"], "](docs/README.md)") {
		t.Error("README.md does not lead to docs/README.md")
	}
	for name := range all {
		if base := path.Base(name); strings.HasPrefix(name, "docs/") && base != "README.md" && !strings.Contains(all["docs/README.md"], "]("+base) {
			t.Errorf("docs/README.md does not lead to %s", base)
		}
	}
}

var (
	fieldName  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
	storeName  = regexp.MustCompile(`^COMFY_[A-Z]+$`)
	metricForm = regexp.MustCompile(`^comfyherd_[a-z_]+$`)
	ofOthers   = []string{"sync_interval", "max_ack_pending", "max_payload"} // settings of NATS
)

// A name between backticks that has the form of a field, a reason, a kind, a bucket or a metric is in the code.
func TestNamesInProseAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	known := wordsOfTheCode(t)
	for _, metrics := range allMetrics(t) {
		for i := range metrics {
			known[metrics[i].Name] = true
		}
	}
	for p := range 10 {
		known["dispatch_"+strconv.Itoa(p)] = true
	}
	seen := 0
	for name, page := range pages(t) {
		for _, code := range docs.Code(docs.Prose(page)) {
			if !fieldName.MatchString(code) && !storeName.MatchString(code) && !metricForm.MatchString(code) || slices.Contains(ofOthers, code) {
				continue
			}
			seen++
			if !known[code] {
				t.Errorf("%s names `%s`, which is nowhere in the code", name, code)
			}
		}
	}
	if seen < 300 {
		t.Errorf("only %d names were seen", seen)
	}
}

// wordsOfTheCode are the words of all sources without tests.
func wordsOfTheCode(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, dir := range []string{"internal", "jetstream", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") {
				return err
			}
			text, err := os.ReadFile(name)
			for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool {
				return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
			}) {
				known[word] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return known
}

var (
	flagInText = regexp.MustCompile(`^--([a-z][a-z-]*)`)
	flagInPage = regexp.MustCompile("(?m)^\\| `(?:-[a-z], )?--([a-z][a-z-]*)")
	ofComfyUI  = []string{"enable-cors-header", "front-end-root", "preview-method", "listen", "port"} // flags of its main.py
)

// A flag that stands by itself between backticks is one of ours, all of which are in docs/configuration.md.
func TestFlagsInProseExist(t *testing.T) {
	t.Parallel()
	known, seen := map[string]bool{}, 0
	for _, match := range flagInPage.FindAllStringSubmatch(pages(t)["docs/configuration.md"], -1) {
		known[match[1]] = true
	}
	for name, page := range pages(t) {
		for _, code := range docs.Code(docs.Prose(page)) {
			if match := flagInText.FindStringSubmatch(code); match != nil {
				seen++
				if !known[match[1]] && !slices.Contains(ofComfyUI, match[1]) {
					t.Errorf("%s names the flag `%s`, which neither program has", name, code)
				}
			}
		}
	}
	if len(known) < 80 || seen < 150 {
		t.Errorf("only %d flags were found, and %d uses of them", len(known), seen)
	}
}

// The architecture says of each stream, bucket and object store of the contract what it is.
func TestTheArchitectureHasEveryStore(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(pages(t)["docs/architecture.md"], "## Streams and buckets as data structures\n")
	section, _, _ = strings.Cut(section, "\n## ")
	stores := column(docs.Table(contract(t), "streams"), 0)
	for _, store := range stores {
		if !strings.Contains(section, "`"+store+"`") {
			t.Errorf("docs/architecture.md has no row for %s", store)
		}
	}
	if len(stores) < 20 {
		t.Errorf("only %d stores were seen", len(stores))
	}
}

// A subject between backticks, or in a block of text, is one of those that docs/contract.md lists, whose tables are compared with the code.
func TestSubjectsInProseAreOfTheContract(t *testing.T) {
	t.Parallel()
	listed, seen := []string{}, 0
	for _, table := range []string{"subjects", "api", "tenant calls"} {
		listed = append(listed, column(docs.Table(contract(t), table), 0)...)
	}
	for name, page := range pages(t) {
		for _, code := range append(docs.Code(docs.Prose(page)), strings.Fields(strings.Join(docs.Fenced(page, "text"), " "))...) {
			if name == "docs/contract.md" || !strings.HasPrefix(code, "comfy.") || strings.Contains(code, "…") {
				continue
			}
			seen++
			if !slices.ContainsFunc(listed, func(subject string) bool { return meets(code, subject) }) {
				t.Errorf("%s names the subject `%s`, which docs/contract.md does not list", name, code)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d subjects were seen", seen)
	}
}
