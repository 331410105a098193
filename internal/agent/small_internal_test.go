package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Python's json.dumps has given the expected text. Several of the characters end in the byte of an escaped one.
func TestASecretIsFoundAsPythonQuotesIt(t *testing.T) {
	t.Parallel()
	const secret = "a\b\f\n\r\t\"\\\x01\x1f ~\x7f\u0080\u010a\u0122\uff5c€🔑z"
	const quoted = `a\b\f\n\r\t\"\\\u0001\u001f ~\u007f\u0080\u010a\u0122\uff5c\u20ac\ud83d\udd11z`
	if got := quotedByPython(secret); got != quoted {
		t.Errorf("it is quoted as %s, want %s", got, quoted)
	}
	for text, want := range map[string]string{
		"is " + secret + "!": "is [extra_data]!", `{"a":"` + quoted + `"}`: `{"a":"[extra_data]"}`, "k3y-of-acme, k3y": "[extra_data], [extra_data]",
	} {
		if got := hide([]string{secret, "k3y-of-acme", "k3y"}).Replace(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestIDsOfPromptsDoNotDependOnThoseMadeBefore(t *testing.T) {
	t.Parallel()
	p, o, created := newPromptIDs([]byte("secret")), &queue.Offer{Job: "one", Attempt: 1}, time.Unix(1_700_000_000, 0)
	if first, second := p.of(o, created), p.of(o, created); first != second {
		t.Errorf("the id is %s, and then %s", first, second)
	}
}

// An ack that is older than an outage of NATS may last was received, and of many only the newest can have been lost.
func TestOnlyTheNewestAcksAreSentAgain(t *testing.T) {
	t.Parallel()
	var a acks
	start := time.Unix(1_700_000_000, 0)
	if got := a.recent(start); len(got) != 0 {
		t.Errorf("of no acks %q are sent again", got)
	}
	var want []queue.Lease
	for i := range 70 {
		lease := queue.Lease(fmt.Sprint(i))
		a.add(lease, start.Add(time.Duration(i)*time.Millisecond))
		if i >= 6 {
			want = append(want, lease)
		}
	}
	got := a.recent(start.Add(time.Second))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q are sent again, want the newest 64", got)
	}
	last := start.Add(69 * time.Millisecond)
	if got := a.recent(last.Add(30*time.Second - 1)); len(got) != 1 || got[0] != "69" {
		t.Errorf("%q are sent again after almost 30 s, want the last one", got)
	}
	if got := a.recent(last.Add(30 * time.Second)); len(got) != 0 {
		t.Errorf("%q are sent again after 30 s", got)
	}
}

func TestNodesThatTheWorkflowHasBlockedAreNamedAsFarAsThereIsRoom(t *testing.T) {
	t.Parallel()
	if got := blockerMessage(nil); got != "" {
		t.Errorf("of no nodes it says %q", got)
	}
	if got, want := blockerMessage([]string{"node 2: a", "node 3: b"}), "nodes were blocked by the workflow: node 2: a; node 3: b"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if got := blockerMessage([]string{strings.Repeat("x", 3000)}); len(got) != 2000 {
		t.Errorf("the message has %d bytes, want 2000", len(got))
	}
}

func TestOnlyThePromptsOwnFolderIsLeftOutOfAPath(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]string{
		"comfyherd/p1": "", "comfyherd/p1/a/b": "a/b", `comfyherd\p1\a\b`: "a/b", "comfyherd/p12/a": "comfyherd/p12/a", "a/comfyherd/p1": "a/comfyherd/p1", `a\b`: `a\b`, "": "", "/a/b": "/a/b",
	} {
		if got := visibleFolder(folder, "p1"); got != want {
			t.Errorf("%q is shown as %q, want %q", folder, got, want)
		}
	}
}

func TestAFileIsStoredUnderItsNameWithoutItsFolder(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, c := range []struct {
		attempt    int
		file, want string
	}{
		{1, `a\b\c.png`, "acme/one/2/c.png"}, {1, "x/c.png", "acme/one/2/c-2.png"}, {1, "c.png", "acme/one/2/c-3.png"}, {1, "plain", "acme/one/2/plain"},
		{3, "c.tar.gz", "acme/one/2/c.tar-a3.gz"}, {3, "c.tar.gz", "acme/one/2/c.tar-a3-2.gz"},
	} {
		a := &attempt{run: &run{key: key{"acme", "one", c.attempt}}}
		if got := objectName(a, comfy.Output{Node: "2", Filename: c.file}, taken); got != c.want {
			t.Errorf("%s of attempt %d is stored as %s, want %s", c.file, c.attempt, got, c.want)
		}
	}
}

func TestTheNumbersOfNodesAreOrderedByValue(t *testing.T) {
	t.Parallel()
	ids := []string{"10", "9", "100", "2", "1"}
	slices.SortFunc(ids, shorterFirst)
	if want := []string{"1", "2", "9", "10", "100"}; !slices.Equal(ids, want) {
		t.Errorf("the order is %q, want %q", ids, want)
	}
}

func TestOnlyLastingAnswersRefuseAnInput(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		301: true, 400: true, 403: true, 404: true, 407: true, 408: false, 410: true, 424: true, 425: false, 426: true, 428: true, 429: false, 431: true, 499: true, 500: false, 503: false,
	} {
		if refuses(status) != want {
			t.Errorf("status %d refuses an input: %t", status, !want)
		}
	}
}

func TestWhereANodeStoodWhenItsRunWasStopped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value, most, want float64
	}{{0, 0, 0}, {5, 0, 0}, {1, 4, 0.25}, {4, 4, 1}, {9, 4, 1}, {-1, 4, 0}, {1, 1, 1}} {
		a := &attempt{node: comfy.Progress{Node: "3", Value: c.value, Max: c.most}}
		if node, progress, ran := a.at(); node.Node != "3" || progress != c.want || ran != 0 {
			t.Errorf("%v of %v is %v of node %s after %s, want %v", c.value, c.most, progress, node.Node, ran, c.want)
		}
	}
}

func TestTheTimeOfANodeBeginsWithItsFirstProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &attempt{live: live{told: time.Now().Add(time.Hour), timer: time.NewTimer(time.Hour)}} // nothing is to be published yet
		for _, c := range []struct {
			node string
			want time.Duration
		}{{"3", 2 * time.Second}, {"3", 4 * time.Second}, {"4", 2 * time.Second}} {
			a.progress(comfy.Progress{Node: c.node})
			<-time.After(2 * time.Second)
			if node, _, ran := a.at(); node.Node != c.node || ran != c.want {
				t.Errorf("node %s has run for %s, want node %s and %s", node.Node, ran, c.node, c.want)
			}
		}
	})
}
