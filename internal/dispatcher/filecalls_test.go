package dispatcher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fileCaller makes the calls of a tenant as they come over the wire.
type fileCaller struct {
	calls  map[string]queue.TenantEndpoint
	tenant job.Tenant
}

func (c fileCaller) as(tenant job.Tenant) fileCaller { return fileCaller{c.calls, tenant} }

func (c fileCaller) get(request string) (queue.TenantReply, error) {
	return c.calls["file.get"](context.Background(), c.tenant, queue.TenantRequest{Body: []byte(request)})
}

func (c fileCaller) put(header nats.Header, body []byte) (queue.TenantReply, error) {
	return c.calls["file.put"](context.Background(), c.tenant, queue.TenantRequest{Header: header, Body: body})
}

// piece has the headers of a piece of acme/in/a, and others.
func piece(offset int, more ...string) nats.Header {
	h := nats.Header{"Comfy-File": {"acme/in/a"}, "Comfy-Upload": {"upload-1"}, "Comfy-Offset": {strconv.Itoa(offset)}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// A caller that gets no answer repeats its call, and another dispatcher may answer it. The file has each byte once all the same.
func TestAPieceThatIsRepeatedIsStoredOnce(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	a := fileCaller{dispatcher.FileCalls(openQueue(t, url), 1000), "acme"}
	b := fileCaller{dispatcher.FileCalls(openQueue(t, url), 1000), "acme"}
	cursor := ""
	for _, c := range []fileCaller{a, b, a} {
		reply, err := c.put(piece(0), []byte("first"))
		if err != nil || reply.Header.Get("Comfy-Offset") != "5" || cursor != "" && reply.Header.Get("Comfy-Cursor") != cursor {
			t.Fatalf("the first piece: %+v, %v", reply, err)
		}
		cursor = reply.Header.Get("Comfy-Cursor")
	}
	if _, err := a.put(piece(0), []byte("other")); !isA[*jetstream.Conflict](err) {
		t.Errorf("other bytes in its place: %v", err)
	}
	if _, err := a.put(piece(4, "Comfy-Cursor", cursor), []byte("x")); !isA[*jetstream.BadRequest](err) {
		t.Errorf("a piece in another place than its cursor: %v", err)
	}
	last := piece(5, "Comfy-Cursor", cursor, "Comfy-Last", "true", "Content-Type", "text/plain", "Comfy-File-Digest", digestOf([]byte("first, last")))
	want := `{"name":"acme/in/a","size":11,"digest":"` + digestOf([]byte("first, last")) + `","content_type":"text/plain"}`
	for _, c := range []fileCaller{b, a, b} {
		if reply, err := c.put(last, []byte(", last")); err != nil || string(reply.Body) != want {
			t.Errorf("the last piece: %s, %v", reply.Body, err)
		}
	}
	if _, err := a.put(piece(0), []byte("first")); !isA[*jetstream.Conflict](err) {
		t.Errorf("the first piece again, of an upload that went on: %v", err)
	}
	reply, err := b.get(`{"name":"acme/in/a","store":"inputs"}`)
	if err != nil || string(reply.Body) != "first, last" || reply.Header.Get("Comfy-File-Size") != "11" || reply.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("it is %q, %v, %v", reply.Body, reply.Header, err)
	}
	if n := storedIn(t, rawOn(t, url), "OBJ_COMFY_INPUTS"); n != 3 { // two parts and what they are
		t.Errorf("%d messages are stored", n)
	}
}

func storedIn(t *testing.T, js nats.JetStreamContext, stream string) uint64 {
	t.Helper()
	info, err := js.StreamInfo(stream)
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func rawOn(t *testing.T, url string) nats.JetStreamContext {
	t.Helper()
	js, err := connectTo(t, url).JetStream(nats.MaxWait(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// An upload whose parts are gone, or whose bytes are not those of its digest, is no file, and an earlier one stays.
func TestAnUploadThatIsNotWholeReplacesNothing(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	c := fileCaller{dispatcher.FileCalls(openQueue(t, url), 1000), "acme"}
	if _, err := c.put(piece(0, "Comfy-Upload", "earlier-1", "Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("old"))), []byte("old")); err != nil {
		t.Fatal(err)
	}
	_, err := c.put(piece(0, "Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("new"))), []byte("old"))
	if !isA[*jetstream.BadRequest](err) || !strings.Contains(err.Error(), digestOf([]byte("old"))) {
		t.Errorf("another digest: %v", err)
	}
	if n := storedIn(t, rawOn(t, url), "OBJ_COMFY_INPUTS"); n != 2 {
		t.Errorf("%d messages are stored", n)
	}
	reply, err := c.put(piece(0), []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	second := piece(3, "Comfy-Cursor", reply.Header.Get("Comfy-Cursor"))
	if reply, err = c.put(second, []byte("def")); err != nil {
		t.Fatal(err)
	}
	// The messages before are a file of two, a part whose digest was another, and the first part, which now ends by its age.
	if err := rawOn(t, url).DeleteMsg("OBJ_COMFY_INPUTS", 4); err != nil {
		t.Fatal(err)
	}
	last := piece(6, "Comfy-Cursor", reply.Header.Get("Comfy-Cursor"), "Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("abcdef")))
	if _, err := c.put(last, nil); !isA[*jetstream.Conflict](err) || !strings.Contains(err.Error(), "1 parts are stored instead of 2") {
		t.Errorf("without its first part: %v", err)
	}
	if reply, err := c.get(`{"name":"acme/in/a","store":"inputs"}`); err != nil || string(reply.Body) != "old" {
		t.Errorf("it is %q, %v", reply.Body, err)
	}
}

// A tenant that asks with another's name, with another's cursor, or with a cursor that was changed gets nothing. With the id of
// another's upload it has an upload of its own.
func TestATenantReachesOnlyItsOwnFiles(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	q := openQueue(t, url)
	acme := fileCaller{dispatcher.FileCalls(q, 1000), "acme"}
	bolt := acme.as("bolt")
	for _, name := range []string{"acme/a", "acme/b", "bolt/a"} {
		if _, err := q.StoreOutput(t.Context(), name, "", strings.NewReader("of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	reply, err := acme.get(`{"name":"acme/a","limit":3}`)
	if err != nil || string(reply.Body) != "of " {
		t.Fatalf("%q, %v", reply.Body, err)
	}
	cursor := reply.Header.Get("Comfy-Cursor")
	if reply, err = acme.get(`{"name":"acme/a","offset":3,"cursor":"` + cursor + `"}`); err != nil || string(reply.Body) != "acme/a" {
		t.Errorf("the rest is %q, %v", reply.Body, err)
	}
	for what, request := range map[string]string{
		"AnotherName":   `{"name":"acme/a"}`,
		"AnotherTenant": `{"name":"bolt/a","tenant":"acme"}`,
		"Way":           `{"name":"bolt/../acme/a"}`,
		"Itself":        `{"name":"bolt/"}`,
		"Cursor":        `{"name":"bolt/a","cursor":"` + cursor + `"}`,
		"Store":         `{"name":"bolt/a","store":"OBJ_COMFY_INPUTS"}`,
	} {
		for _, call := range []string{"file.get", "file.stat"} {
			reply, err := bolt.calls[call](t.Context(), "bolt", queue.TenantRequest{Body: []byte(request)})
			if what == "Cursor" && call == "file.stat" {
				continue // which has none
			}
			if !isA[*jetstream.BadRequest](err) && !isA[*jetstream.NotFound](err) || len(reply.Body) > 0 || len(reply.Header) > 0 {
				t.Errorf("%s by %s: %q, %v", what, call, reply.Body, err)
			}
		}
	}
	if _, err := acme.get(`{"name":"acme/b","cursor":"` + cursor + `"}`); !isA[*jetstream.BadRequest](err) {
		t.Errorf("the cursor of another file: %v", err)
	}
	for i := range cursor {
		changed := []byte(cursor)
		changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
		if _, err := acme.get(fmt.Sprintf(`{"name":"acme/a","cursor":%q}`, changed)); !isA[*jetstream.BadRequest](err) && i < len(cursor)-1 {
			t.Errorf("a cursor with another character %d: %v", i, err)
		}
	}
	if _, err := q.StoreOutput(t.Context(), "acme/a", "", strings.NewReader("of acme/a")); err != nil {
		t.Fatal(err)
	}
	if reply, err := acme.get(`{"name":"acme/a","offset":3,"cursor":"` + cursor + `"}`); !isA[*jetstream.Conflict](err) || len(reply.Body) > 0 {
		t.Errorf("a cursor of the file that had the name before: %q, %v", reply.Body, err)
	}
	testUploadsOfTwo(t, acme, bolt)
}

func testUploadsOfTwo(t *testing.T, acme, bolt fileCaller) {
	t.Helper()
	first, err := acme.put(piece(0), []byte("acme's"))
	if err != nil {
		t.Fatal(err)
	}
	own := func(offset int, more ...string) nats.Header {
		return piece(offset, append([]string{"Comfy-File", "bolt/in/a"}, more...)...)
	}
	if _, err := bolt.put(piece(0), []byte("bolt's")); !isA[*jetstream.BadRequest](err) {
		t.Errorf("another's name: %v", err)
	}
	if _, err := bolt.put(own(6, "Comfy-Cursor", first.Header.Get("Comfy-Cursor")), []byte("bolt's")); !isA[*jetstream.BadRequest](err) {
		t.Errorf("another's cursor: %v", err)
	}
	second, err := bolt.put(own(0), []byte("bolt's"))
	if err != nil {
		t.Fatalf("an upload with the id of another's: %v", err)
	}
	if _, err := bolt.put(own(0, "Comfy-Last", "true", "Comfy-File-Digest", digestOf(nil)), nil); !isA[*jetstream.Conflict](err) {
		t.Errorf("ended without what it has put: %v", err)
	}
	ends := own(6, "Comfy-Cursor", second.Header.Get("Comfy-Cursor"), "Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("bolt's")))
	if _, err := bolt.put(ends, nil); err != nil {
		t.Errorf("it ends its own: %v", err)
	}
	last := piece(6, "Comfy-Cursor", first.Header.Get("Comfy-Cursor"), "Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("acme's")))
	if _, err := acme.put(last, nil); err != nil {
		t.Errorf("acme's upload goes on: %v", err)
	}
	if reply, err := acme.get(`{"name":"acme/in/a","store":"inputs"}`); err != nil || string(reply.Body) != "acme's" {
		t.Errorf("acme's file is %q, %v", reply.Body, err)
	}
}

func TestAPieceThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	q := openQueue(t, url)
	if _, err := q.StoreOutput(t.Context(), "acme/a", "", strings.NewReader("a")); err != nil {
		t.Fatal(err)
	}
	c := fileCaller{dispatcher.FileCalls(q, 1000), "acme"}
	end := []string{"Comfy-Last", "true", "Comfy-File-Digest", digestOf([]byte("x"))}
	for what, put := range map[string]struct {
		header nats.Header
		body   string
		code   int
	}{
		"NoName":        {piece(0, append(end, "Comfy-File", "")...), "x", 400},
		"Way":           {piece(0, append(end, "Comfy-File", "acme/../bolt/x")...), "x", 400},
		"HiddenWay":     {piece(0, append(end, "Comfy-File", "acme/%2e%2e/bolt/x")...), "x", 400},
		"Here":          {piece(0, append(end, "Comfy-File", "acme/./x")...), "x", 400},
		"Empty":         {piece(0, append(end, "Comfy-File", "acme//x")...), "x", 400},
		"Backslash":     {piece(0, append(end, "Comfy-File", `acme/..\x`)...), "x", 400},
		"Control":       {piece(0, append(end, "Comfy-File", "acme/a%00b")...), "x", 400},
		"Bidirectional": {piece(0, append(end, "Comfy-File", "acme/a\u202eb")...), "x", 400},
		"NoUTF8":        {piece(0, append(end, "Comfy-File", "acme/%ff")...), "x", 400},
		"NoEncoding":    {piece(0, append(end, "Comfy-File", "acme/100%")...), "x", 400},
		"Long":          {piece(0, append(end, "Comfy-File", "acme/"+strings.Repeat("x", 1020))...), "x", 400},
		"ShortUpload":   {piece(0, append(end, "Comfy-Upload", "1234567")...), "x", 400},
		"StrangeUpload": {piece(0, append(end, "Comfy-Upload", "12345678.>")...), "x", 400},
		"NoCursor":      {piece(5, end...), "x", 400},
		"Negative":      {piece(-1, end...), "x", 400},
		"NoNumber":      {piece(0, append(end, "Comfy-Offset", "many")...), "x", 400},
		"Nothing":       {piece(0), "", 400},
		"NoDigest":      {piece(0, "Comfy-Last", "true"), "x", 400},
		"LastOrNot":     {piece(0, append(end, "Comfy-Last", "1")...), "x", 400},
		"LongType":      {piece(0, append(end, "Content-Type", strings.Repeat("x", 257))...), "x", 400},
		"EscapeInType":  {piece(0, append(end, "Content-Type", "image/png\x1b[2J")...), "x", 400},
		"TypeWithC1":    {piece(0, append(end, "Content-Type", "image/png\u009b")...), "x", 400},
		"TypeWithDEL":   {piece(0, append(end, "Content-Type", "image/png\x7f")...), "x", 400},
		"OtherSize":     {piece(0, append(end, "Comfy-File-Size", "2")...), "x", 400},
		"MoreThanSaid":  {piece(0, "Comfy-File-Size", "2"), "xyz", 400},
		"DamagedCursor": {piece(5, append(end, "Comfy-Cursor", "!")...), "x", 400},
		"EmptyCursor":   {piece(5, append(end, "Comfy-Cursor", strings.Repeat("A", 300))...), "x", 400},
		"TooBig":        {piece(0), strings.Repeat("x", 1001), 413},
		"TooBigSoon":    {piece(0, "Comfy-File-Size", "1001"), "x", 413},
		"LargePiece":    {piece(0), strings.Repeat("x", 512<<10+1), 413},
	} {
		reply, err := c.put(put.header, []byte(put.body))
		if is := isA[*jetstream.BadRequest](err); put.code == 400 && !is {
			t.Errorf("%s: %v", what, err)
		}
		if is := isA[*jetstream.TooBig](err); put.code == 413 && !is {
			t.Errorf("%s: %v", what, err)
		}
		if len(reply.Body) > 0 {
			t.Errorf("%s: %s", what, reply.Body)
		}
	}
	if n := storedIn(t, rawOn(t, url), "OBJ_COMFY_INPUTS"); n != 0 {
		t.Errorf("%d messages are stored", n)
	}
	for what, request := range map[string]string{
		"NoJSON": `{`, "Negative": `{"name":"acme/a","offset":-1}`, "Limit": `{"name":"acme/a","limit":-1}`, "Cursor": `{"name":"acme/a","cursor":"AAAA"}`,
		"Long": `{"name":"acme/` + strings.Repeat("x", 1020) + `"}`,
	} {
		if _, err := c.get(request); !isA[*jetstream.BadRequest](err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// When the store is full the caller gets an error that says so, and the upload can go on when there is room.
func TestAPieceThatHasNoRoomIsToldAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	url := filesOn(t)
	q := openQueue(t, url)
	c := fileCaller{dispatcher.FileCallsWith(q, 1<<20, 1<<30), "acme"}
	js := rawOn(t, url)
	info, err := js.StreamInfo("OBJ_COMFY_INPUTS")
	if err != nil {
		t.Fatal(err)
	}
	room := func(bytes int64) {
		t.Helper()
		info.Config.MaxBytes, info.Config.Discard = bytes, nats.DiscardNew // or the oldest files would go
		if _, err := js.UpdateStream(&info.Config); err != nil {
			t.Fatal(err)
		}
	}
	body := noise(200_000)
	room(100_000)
	if _, err := c.put(piece(0), body); !isA[*jetstream.Failed](err) || !strings.Contains(err.Error(), "507") || !strings.Contains(err.Error(), "COMFY_INPUTS is full") {
		t.Errorf("without room: %v", err)
	}
	room(-1)
	c.calls = dispatcher.FileCalls(q, 1<<20) // another dispatcher has not counted yet
	reply, err := c.put(piece(0, "Comfy-Last", "true", "Comfy-File-Digest", digestOf(body)), body)
	var file jetstream.File
	if err != nil || json.Unmarshal(reply.Body, &file) != nil || file.Size != 200_000 {
		t.Errorf("with room: %s, %v", reply.Body, err)
	}
}

// The parts of such a file do not say where they begin, so they can only be read one after the other.
func TestAFileOfAnotherProgramIsGivenInOrder(t *testing.T) {
	t.Parallel()
	url, body := filesOn(t), noise(1_000_000)
	c := fileCaller{dispatcher.FileCalls(openQueue(t, url), 1000), "acme"}
	js := rawOn(t, url)
	former, err := js.StreamInfo("OBJ_COMFY_OUTPUTS")
	if err != nil {
		t.Fatal(err)
	}
	former.Config.AllowRollup = true // or other programs could store none
	if _, err := js.UpdateStream(&former.Config); err != nil {
		t.Fatal(err)
	}
	store, err := js.ObjectStore(names.OutputsStore)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutBytes("acme/theirs", body); err != nil {
		t.Fatal(err)
	}
	for offset, cursor := 0, ""; offset < len(body); {
		reply, err := c.get(fmt.Sprintf(`{"name":"acme/theirs","offset":%d,"cursor":%q,"limit":70001}`, offset, cursor))
		n := min(70_001, len(body)-offset)
		if err != nil || !bytes.Equal(reply.Body, body[offset:offset+n]) || reply.Header.Get("Comfy-In-Order") != "true" {
			t.Fatalf("from byte %d: %d bytes, %v, %v", offset, len(reply.Body), reply.Header, err)
		}
		offset, cursor = offset+n, reply.Header.Get("Comfy-Cursor")
	}
	if reply, err := c.get(`{"name":"acme/theirs","offset":999999}`); err != nil || len(reply.Body) != 1 || reply.Body[0] != body[999_999] {
		t.Errorf("its last byte: %q, %v", reply.Body, err)
	}
}
