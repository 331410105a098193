package gateway_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

const (
	hostPrompt = "0b3d2c1e-1111-4222-8333-444455556666"
	jobID      = "9f8e7d6c-aaaa-4bbb-8ccc-ddddeeeeffff"
)

func FuzzPromptsAreReadOrRefused(f *testing.F) {
	for _, body := range []string{
		`{"prompt":{"1":{"class_type":"A","inputs":{"seed":NaN}}},"client_id":"x","number":"7","front":true,"extra_data":{"client_id":3,"api_key_comfy_org":"k"}}`,
		`{"prompt":null,"prompt_id":"` + jobID + `","partial_execution_targets":["1"]}`, `[`, `"NaN`, `{"prompt":{}}x`, "\xff", `{"a":"\"NaN"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		stored, err := gateway.ReadPrompt(body)
		if !bytes.Equal(before, body) {
			t.Error("the body was changed")
		}
		if err == nil && !json.Valid(gateway.PlainJSON(stored)) {
			t.Errorf("what is stored is no JSON: %.300q", stored)
		}
	})
}

func FuzzFramesNeverShowTheHostsPrompt(f *testing.F) {
	picture := "\x00\x00\x00\x04\x00\x00\x00\x51" + `{"prompt_id":"` + hostPrompt + `","image_type":"image/png","x":"1"}` + "\x89PNG"
	f.Add(true, []byte(picture))
	f.Add(true, []byte("\x00\x00\x00\x04\xff\xff\xff\xff{}"))
	f.Add(true, []byte("\x00\x00\x00\x01\x00\x00\x00\x01JPEG"))
	f.Add(false, []byte(`{"type": "executed", "data": {"node": "2", "output": {"images": [{"filename": "a.png", "subfolder": "comfyherd/`+hostPrompt+`/x", "type": "output"}], "n": NaN}, "prompt_id": "`+hostPrompt+`"}}`))
	f.Add(false, []byte(`{"type":"executing","data":{"node":7,"prompt_id":"`+hostPrompt+`"}}`))
	f.Fuzz(func(t *testing.T, isBinary bool, data []byte) {
		for _, shown := range gateway.ShownFrame(isBinary, data, hostPrompt, jobID) {
			if bytes.Contains(shown, []byte(hostPrompt)) && !isBinary {
				t.Errorf("%q", shown)
			}
			if len(shown) >= 8 && isBinary && binary.BigEndian.Uint32(shown) == 4 && uint64(binary.BigEndian.Uint32(shown[4:])) > uint64(len(shown)) && !bytes.Equal(shown, data) {
				t.Errorf("the metadata is longer than the frame: %x", shown[:8])
			}
		}
	})
}

func FuzzPathsStayBelowTheirFolder(f *testing.F) {
	for _, path := range []string{"a/b.png", "../x", `a\..\b`, "/etc/passwd", "a//b", "C:/x", ".", "..", "a/./b", "\x00", "a\nb", "...", "a/..b"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		clean, ok := gateway.CleanPath(path)
		if !ok {
			return
		}
		for part := range strings.SplitSeq(clean, "/") {
			if part == "" || part == "." || part == ".." || strings.Contains(part, `\`) {
				t.Errorf("%q became %q", path, clean)
			}
		}
	})
}

func TestAFramesIdsAndFilesAreTheClients(t *testing.T) {
	t.Parallel()
	executed := `{"type": "executed", "data": {"node": "2", "output": {"images": [{"filename": "a.png", "subfolder": "comfyherd/` + hostPrompt + `/x", "type": "output"}], "n": NaN}, "prompt_id": "` + hostPrompt + `"}}`
	want := `{"type":"executed","data":{"node":"2","display_node":"2","output":{"images":[{"filename":"a.png","subfolder":"` + jobID + `/x","type":"output"}],"n":null},"prompt_id":"` + jobID + `"}}`
	if got := gateway.ShownFrame(false, []byte(executed), hostPrompt, jobID); string(got[0]) != want {
		t.Errorf("got\n%s, want\n%s", got[0], want)
	}
	metadata := `{"prompt_id":"` + hostPrompt + `","image_type":"image/png"}`
	frame := append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 4}, uint32(len(metadata))), metadata+"PIXELS"...)
	got := gateway.ShownFrame(true, frame, hostPrompt, jobID)
	if string(got[0][8:]) != strings.Replace(metadata, hostPrompt, jobID, 1)+"PIXELS" {
		t.Errorf("with metadata: %q", got[0])
	}
	if string(got[1]) != "\x00\x00\x00\x01\x00\x00\x00\x02PIXELS" {
		t.Errorf("without: %q", got[1])
	}
}

func FuzzAKeyInThePathLeavesTheRestOfThePath(f *testing.F) {
	for _, path := range []string{"/k/key/api/queue", "/k/a%2Fb/x", "/k//x", "/k/%zz/x", "/k/key", "/kk/x", "/k/key/userdata/a%2F..%2Fb", "/k/key//ws"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse(path)
		if err != nil {
			return
		}
		key, rest, found := gateway.KeyInPath(u)
		if !found {
			return
		}
		if key == "" || !strings.HasPrefix(rest, "/") || !strings.HasSuffix(u.EscapedPath(), strings.TrimPrefix(rest, "/")) {
			t.Errorf("%q has the key %q and the rest %q", path, key, rest)
		}
	})
}

func FuzzRecordsOfHostsAreShownAsJSON(f *testing.F) {
	f.Add([]byte(`{"` + hostPrompt + `": {"outputs": {"2": {"images": [{"filename": "a.png", "subfolder": "comfyherd/` + hostPrompt + `", "type": "output"}], "n": NaN}}, "status": {"messages": [["execution_start", {}], [1], "x", ["execution_error"]]}, "meta": {}}}`))
	f.Add([]byte(`{"` + hostPrompt + `": {"outputs": {"2": null, "3": [[{"filename": 1}]]}, "status": null}}`))
	f.Add([]byte(`{"` + hostPrompt + `": null}`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		shown, ok := gateway.ShownRecord(stored, jobID)
		if !ok {
			return
		}
		var entry struct {
			Status struct {
				Status    string `json:"status_str"`
				Completed bool
				Messages  []json.RawMessage
			}
		}
		if err := json.Unmarshal(shown, &entry); err != nil || entry.Status.Status != "success" || len(entry.Status.Messages) == 0 {
			t.Errorf("%v: %.300q", err, shown)
		}
	})
}

func FuzzCursorsAreReadOrRefused(f *testing.F) {
	for _, cursor := range []string{"", "x", "MTIzOmFiYw", "////", "e30", strings.Repeat("A", 300)} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		again, err := gateway.PlaceOf(cursor)
		if err != nil {
			return
		}
		if twice, err := gateway.PlaceOf(again); err != nil || twice != again {
			t.Errorf("%q became %q and then %q: %v", cursor, again, twice, err)
		}
	})
}
