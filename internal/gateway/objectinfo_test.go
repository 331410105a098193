package gateway_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

// A request while a change is being merged gets the earlier answer. Only the first request of all waits.
func TestTheEarlierAnswerIsServedWhileAChangeIsMerged(t *testing.T) {
	t.Parallel()
	m, now := gateway.NewMerges(), time.Unix(1000, 0)
	want := func(body, found string) {
		t.Helper()
		if gotBody, gotFound, err := m.Ask(t.Context()); gotBody != body || gotFound != found || err != nil {
			t.Errorf("%s, %s, %v; want %s, %s", gotBody, gotFound, err, body, found)
		}
	}
	m.Host("a", "A", now)
	want(`{"A": {}}`, "merged")
	want(`{"A": {}}`, "ready")
	m.HostOfKnown("a", "A", now.Add(time.Hour)) // the same again, later
	want(`{"A": {}}`, "ready")
	m.Host("b", "B", now)
	m.While(func() {
		want(`{"A": {}}`, "earlier")
		want(`{"A": {}}`, "earlier")
	})
	m.End()
	want(`{"A": {}, "B": {}}`, "ready")
}

func TestUploadsAreAmongTheChoicesOfTheInputsThatTakeThem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ def, want string }{
		"Image":    {`{"input": {"required": {"image": [["z.png"], {"image_upload": true}]}}}`, `{"input": {"required": {"image": [["z.png","a.png"],{"image_upload":true}]}}}`},
		"Combo":    {`{"input": {"required": {"image": ["COMBO", {"image_upload": true, "options": []}]}}}`, `{"input": {"required": {"image": ["COMBO",{"image_upload":true,"options":["a.png"]}]}}}`},
		"Audio":    {`{"input": {"required": {"audio": [["b.wav"], {"audio_upload": true}]}}}`, `{"input": {"required": {"audio": [["b.wav","c.wav"],{"audio_upload":true}]}}}`},
		"Outputs":  {`{"input": {"required": {"image": [["z.png"], {"image_upload": true, "image_folder": "output"}]}}}`, `{"input": {"required": {"image": [["z.png"], {"image_upload": true, "image_folder": "output"}]}}}`},
		"Model":    {`{"input": {"required": {"ckpt_name": [["m.safetensors"]]}}}`, `{"input": {"required": {"ckpt_name": [["m.safetensors"]]}}}`},
		"There":    {`{"input": {"required": {"image": [["a.png"], {"image_upload": true}]}}}`, `{"input": {"required": {"image": [["a.png"],{"image_upload":true}]}}}`},
		"AnyFile":  {`{"input": {"optional": {"f": [[], {"file_upload": true}]}}}`, `{"input": {"optional": {"f": [["a.png","c.wav"],{"file_upload":true}]}}}`},
		"NoChoice": {`{"input": {"required": {"image": ["STRING", {"image_upload": true}]}}}`, `{"input": {"required": {"image": ["STRING", {"image_upload": true}]}}}`},
	} {
		if got := gateway.WithUploads(c.def, "a.png", "c.wav"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := gateway.WithUploads(c.def); got != c.def {
			t.Errorf("%s: without uploads it is %s", name, got)
		}
	}
}
