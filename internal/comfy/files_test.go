package comfy_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// troubled is what aiohttp answers when a handler of ComfyUI raises.
const troubled = "500 Internal Server Error\n\nServer got itself in trouble"

// gone is a host whose port refuses connections.
func gone(t *testing.T) *comfy.Host {
	t.Helper()
	server := httptest.NewServer(nil)
	server.Close()
	return open(t, server.URL)
}

func TestAResultThatIsNotHandedOutHasItsKind(t *testing.T) {
	t.Parallel()
	o := comfy.Output{Node: "9", Filename: "a.png", Subfolder: "x", Type: "output"}
	for name, c := range map[string]struct {
		host      *comfy.Host
		want      failure.Kind
		exception string
		says      string
	}{
		"NotThere":   {serve(t, routes{}), failure.Lost, "result_missing", "the result x/a.png of node 9 is not on the host any more"},
		"Forbidden":  {serve(t, routes{"GET /view": says(http.StatusForbidden, "")}), failure.ExecutionError, "result_unreadable", "refuses to hand out the result x/a.png of node 9: HTTP 403"},
		"Raised":     {serve(t, routes{"GET /view": says(http.StatusInternalServerError, troubled)}), failure.ExecutionError, "result_unreadable", "HTTP 500"},
		"BadGateway": {serve(t, routes{"GET /view": says(http.StatusBadGateway, "")}), failure.HostLost, "", "does not hand out the result x/a.png: HTTP 502"},
		"Refused":    {gone(t), failure.HostLost, "", "connection refused"},
		"HungUp":     {serve(t, routes{"GET /view": func(w http.ResponseWriter, r *http.Request) { hangUp(t, w, r) }}), failure.HostLost, "", "does not hand out the result: "},
	} {
		body, _, _, err := c.host.Open(within(t), o)
		if err == nil {
			body.Close()
		}
		if f := failure.As(err); f == nil || f.Kind != c.want || f.Exception != c.exception || (f.Node == "9") != (c.exception != "") || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cancelled by acme")
	cancel(cause)
	if _, _, _, err := gone(t).Open(ctx, o); !errors.Is(err, cause) {
		t.Errorf("after its context has ended: %v", err)
	}
}

func TestAnInputThatIsNotTakenHasItsKind(t *testing.T) {
	t.Parallel()
	// raises has ComfyUI raise for the file of the job, and answer the small file of ours so.
	raises := func(own http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, header, err := r.FormFile("image")
			if err != nil {
				t.Error(err)
				return
			}
			if header.Filename == "cat.png" {
				says(http.StatusInternalServerError, troubled)(w, r)
				return
			}
			own(w, r)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   failure.Kind
		says   string
	}{
		"TooLarge":         {says(http.StatusRequestEntityTooLarge, "Maximum request body size 5 exceeded"), failure.Refused, "Maximum request body size 5 exceeded; start ComfyUI with a larger --max-upload-size"},
		"TooMany":          {says(http.StatusTooManyRequests, ""), failure.RejectedBusy, "takes no input file now"},
		"Unavailable":      {says(http.StatusServiceUnavailable, ""), failure.RejectedBusy, "takes no input file now"},
		"NameNotAllowed":   {says(http.StatusBadRequest, ""), failure.Refused, "its name or folder is not allowed"},
		"FirewallSays400":  {says(http.StatusBadRequest, "blocked"), failure.Refused, "did not get to ComfyUI"},
		"Password":         {says(http.StatusUnauthorized, ""), failure.Refused, "check user and password"},
		"BadGateway":       {says(http.StatusBadGateway, ""), failure.HostLost, "HTTP 502"},
		"ProxyRaised":      {says(http.StatusInternalServerError, "no"), failure.HostLost, "HTTP 500"},
		"NoJSON":           {says(http.StatusOK, "<html>"), failure.Refused, "did not get to ComfyUI"},
		"NotFound":         {says(http.StatusNotFound, `{"name": "cat.png"}`), failure.Refused, "did not get to ComfyUI"},
		"NoName":           {says(http.StatusOK, "{}"), failure.Refused, "did not get to ComfyUI"},
		"HungUp":           {func(w http.ResponseWriter, r *http.Request) { hangUp(t, w, r) }, failure.HostLost, "does not confirm the input file"},
		"NameNotTaken":     {raises(says(http.StatusOK, `{"name": "room.bin"}`)), failure.Refused, "under the name cat.png"},
		"NoRoom":           {raises(says(http.StatusInternalServerError, troubled)), failure.HostSick, "disk or quota is full"},
		"NobodyKnowsWhy":   {raises(says(http.StatusForbidden, "")), failure.HostLost, "does not say whether it can store any"},
		"TakenWithoutPath": {says(http.StatusOK, `{"name": "cat (1).png", "subfolder": ""}`), "", "cat (1).png"},
		"TakenOnWindows":   {says(http.StatusOK, `{"name": "cat.png", "subfolder": "comfyherd\\x"}`), "", "comfyherd/x/cat.png"},
	} {
		host := serve(t, routes{"POST /upload/image": c.answer})
		got, err := host.Upload(within(t), "cat.png", "comfyherd/x", strings.NewReader("meow"))
		if f := failure.As(err); failure.KindOf(err) != c.want || f != nil && !strings.Contains(f.Message, c.says) || f == nil && got != c.says {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := gone(t).Upload(within(t), "cat.png", "x", strings.NewReader("meow")); failure.KindOf(err) != failure.HostLost || !strings.Contains(err.Error(), "does not take the input file") {
		t.Errorf("by a port that refuses: %v", err)
	}
	for _, name := range []string{"", "../cat.png", `..\cat.png`} {
		if _, err := gone(t).Upload(within(t), name, "x", strings.NewReader("meow")); failure.KindOf(err) != failure.InvalidWorkflow {
			t.Errorf("under the name %q: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cancelled by acme")
	cancel(cause)
	if _, err := gone(t).Upload(ctx, "cat.png", "x", strings.NewReader("meow")); !errors.Is(err, cause) {
		t.Errorf("after its context has ended: %v", err)
	}
}
