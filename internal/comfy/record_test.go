package comfy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	torchMemory = `{"node_id": "2", "node_type": "X", "exception_type": "torch.OutOfMemoryError", "exception_message": "no"}`
	valueError  = `["execution_error", {"node_id": "2", "node_type": "X", "exception_type": "ValueError", "exception_message": "no", "timestamp": 9}]`
	blocked     = `["execution_error", {"node_id": "2", "node_type": "X", "exception_type": "ExecutionBlocked", "exception_message": "no", "timestamp": 9}]`
	interrupted = `["execution_interrupted", {"timestamp": 9}]`
)

// history is the record of a prompt with a status and messages.
func history(status, messages string) ended {
	return ended{Path: "/history/" + promptID, Body: `{"` + promptID + `": {"outputs": {}, "status": {"status_str": "` + status + `", "messages": [` + messages + `]}}}`}
}

// ofJob is the same as newer servers tell it, with the exception apart.
func ofJob(status, exception, messages string) ended {
	return ended{Path: "/api/jobs/" + promptID, Body: `{"status": "` + status + `", "execution_error": ` + exception + `, "outputs": {}, "execution_status": {"messages": [` + messages + `]}}`}
}

func TestTheStatusOfARecordDecidesWhereItsMessagesDoNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		record ended
		want   failure.Kind
		says   string
	}{
		"FailedWithoutAWord":               {history("error", ""), failure.ExecutionError, "ComfyUI does not say why"},
		"FailedWithAnException":            {history("error", valueError), failure.ExecutionError, "ValueError"},
		"FailedByAnInterrupt":              {history("error", interrupted), failure.Interrupted, ""},
		"SucceededInSpiteOfAnException":    {history("success", valueError), "", ""},
		"SucceededInSpiteOfAnInterrupt":    {history("success", interrupted), "", ""},
		"BlockedOnAnOldServer":             {history("", blocked), "", ""},
		"FailedOnAnOldServer":              {history("", valueError), failure.ExecutionError, "ValueError"},
		"MessagesThatAreNone":              {history("success", `["execution_error"], [], [5, {}], ["execution_start", 7], null`), "", ""},
		"HistoryThatIsNoJSON":              {ended{Path: "/history/" + promptID, Body: "<html>"}, failure.Lost, "cannot be asked how far the prompt is"},
		"JobCancelledWithoutAWord":         {ofJob("cancelled", "null", ""), failure.Interrupted, ""},
		"JobFailedWithoutAWord":            {ofJob("failed", "null", ""), failure.ExecutionError, "ComfyUI does not say why"},
		"JobFailedWithAMessage":            {ofJob("failed", "null", valueError), failure.ExecutionError, "ValueError"},
		"JobFailedWithAnExceptionApart":    {ofJob("failed", torchMemory, valueError), failure.OutOfMemory, ""},
		"JobCompletedInSpiteOfAnException": {ofJob("completed", torchMemory, valueError), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := endedHost(t, c.record).Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if got := failure.KindOf(err); got != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("ends as %v, want %q that says %q", err, c.want, c.says)
			}
		})
	}
}

// The host's clock may be set, and old servers do not tell every time.
func TestTimesOfARecordThatMakeNoSenseAreLeftOut(t *testing.T) {
	t.Parallel()
	type times struct{ Queued, Ran time.Duration }
	for name, c := range map[string]struct {
		created, messages string
		want              times
	}{
		"All":              {"1000", `["execution_start", {"timestamp": 1250}], ["execution_success", {"timestamp": 1750}]`, times{250 * time.Millisecond, 500 * time.Millisecond}},
		"NoCreation":       {"null", `["execution_start", {"timestamp": 1250}], ["execution_success", {"timestamp": 1750}]`, times{0, 500 * time.Millisecond}},
		"NoStart":          {"1000", `["execution_success", {"timestamp": 1750}]`, times{}},
		"NoEnd":            {"1000", `["execution_start", {"timestamp": 1250}]`, times{250 * time.Millisecond, 0}},
		"StartedBefore":    {"1000", `["execution_start", {"timestamp": 900}], ["execution_success", {"timestamp": 800}]`, times{}},
		"ThirtyYearsLater": {"1000", `["execution_start", {"timestamp": 1000000001001}], ["execution_success", {"timestamp": 2000000001002}]`, times{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"status": "completed", "create_time": ` + c.created + `, "outputs": {}, "execution_status": {"messages": [` + c.messages + `]}}`
			host := endedHost(t, ended{Path: "/api/jobs/" + promptID, Body: body})
			got, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, times{got.Queued, got.Ran}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALookThatComfyUICannotAnswerHasItsKind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   failure.Kind
		says   string
	}{
		"TooLarge": {func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 1<<20)
			for range 129 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, failure.ExecutionError, "leaves too much in the record"},
		"Forbidden":  {says(http.StatusForbidden, "no"), failure.Lost, "HTTP 403"},
		"NoJSON":     {says(http.StatusOK, "<html>"), failure.Lost, "not one of ComfyUI's"},
		"NoJSONable": {says(http.StatusInternalServerError, "500 Internal Server Error"), failure.ExecutionError, "HTTP 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, routes{"POST /prompt": accepts(promptID), "GET /queue": says(http.StatusOK, emptyQueue), "GET /history/" + promptID: c.answer})
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if f := failure.As(err); f == nil || f.Kind != c.want || !strings.Contains(f.Message, c.says) {
				t.Errorf("ends as %v", err)
			}
		})
	}
}
