package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAPieceOfAFileIsReadFromItsHeaders(t *testing.T) {
	t.Parallel()
	var got jetstream.FilePut
	answer, refused := jetstream.FilePutAnswer{Offset: 9, Cursor: "next"}, error(nil)
	put := queue.TenantFilePut(func(_ context.Context, _ job.Tenant, p jetstream.FilePut) (jetstream.FilePutAnswer, error) {
		got = p
		return answer, refused
	})
	header := func(more ...string) nats.Header {
		h := nats.Header{"Comfy-Upload": {"u1"}, "Comfy-File": {"a%20b.png"}, "Content-Type": {"image/png"}, "Comfy-Cursor": {"here"}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for name, tc := range map[string]struct {
		header nats.Header
		want   jetstream.FilePut
	}{
		"Begin": {header(), jetstream.FilePut{Size: -1}},
		"Whole": {header("Comfy-Offset", "4", "Comfy-File-Size", "0", "Comfy-Last", "true"), jetstream.FilePut{Offset: 4, Last: true}},
		"Not":   {header("Comfy-File-Size", "7", "Comfy-Last", "false"), jetstream.FilePut{Size: 7}},
	} {
		reply, err := put(t.Context(), "acme", queue.TenantRequest{Header: tc.header, Body: []byte("body")})
		tc.want.Upload, tc.want.Name, tc.want.ContentType, tc.want.Cursor, tc.want.Body = "u1", "a b.png", "image/png", "here", []byte("body")
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		if reply.Header.Get("Comfy-Offset") != "9" || reply.Header.Get("Comfy-Cursor") != "next" || reply.Body != nil {
			t.Errorf("%s is answered %+v", name, reply)
		}
	}
	for name, h := range map[string]nats.Header{
		"Comfy-File": header("Comfy-File", "%zz"), "Comfy-Offset": header("Comfy-Offset", "-1"), "Comfy-File-Size": header("Comfy-File-Size", "1e9"),
		"Comfy-Last": header("Comfy-Last", "yes"),
	} {
		_, err := put(t.Context(), "acme", queue.TenantRequest{Header: h})
		if bad, is := errors.AsType[*jetstream.BadRequest](err); !is || !strings.Contains(bad.Message, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer.File = &jetstream.File{Name: "a b.png"}
	if reply, err := put(t.Context(), "acme", queue.TenantRequest{Header: header()}); err != nil || !strings.Contains(string(reply.Body), `"a b.png"`) {
		t.Errorf("the end is answered %s, %v", reply.Body, err)
	}
	refused = errors.New("refused")
	if _, err := put(t.Context(), "acme", queue.TenantRequest{Header: header()}); !errors.Is(err, refused) {
		t.Errorf("a refusal is answered %v", err)
	}
}
