package daemon_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestComfyHosts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []daemon.ComfyHost
		bad  string
	}{
		"One":       {"http://127.0.0.1:8188", []daemon.ComfyHost{{URL: "http://127.0.0.1:8188"}}, ""},
		"Named":     {"big=http://10.0.0.5:8188, https://u:p@h/comfy", []daemon.ComfyHost{{Name: "big", URL: "http://10.0.0.5:8188"}, {URL: "https://u:p@h/comfy"}}, ""},
		"EqualSign": {"http://h:1/?token=x", []daemon.ComfyHost{{URL: "http://h:1/?token=x"}}, ""},
		"Comma":     {"http://h:1,", []daemon.ComfyHost{{URL: "http://h:1"}}, ""},
		"Empty":     {" ", nil, ""},
		"NoScheme":  {"127.0.0.1:8188", nil, "write it like http://127.0.0.1:8188"},
		"Scheme":    {"ws://h:1", nil, "is not the address of a ComfyUI"},
		"NoHost":    {"a=http://", nil, "is not the address of a ComfyUI"},
		"Password":  {"http://h:1, htp://admin:s3cret@h:1", nil, "entry 2 of COMFY_HOSTS is not the address of a ComfyUI"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := daemon.ComfyHosts(tc.text)
			if (err == nil) != (tc.bad == "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
				t.Fatalf("got %v, want %q", err, tc.bad)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
