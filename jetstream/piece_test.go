package jetstream_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// An answer without bytes is right at the end of a file, and when it says how far a dispatcher has searched. Otherwise the same
// question would be asked for ever, without a pause.
func TestAnAnswerWithoutTheBytesThatWereAskedForIsAFailure(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	var offset string
	var body []byte
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{"Comfy-File-Size": {"10"}, "Comfy-Offset": {offset}}
		answer.Data = body
		must(0, msg.RespondMsg(answer))
	})
	acme := jetstream.NewClient(connect(t, url), "acme")
	for name, c := range map[string]struct {
		asked, said int64
		bytes       string
		fails       bool
	}{
		"Usual":              {4, 4, "abc", false},
		"SearchedUpToAPlace": {4, 3, "", false},
		"NothingThere":       {4, 4, "", true},
		"NothingFurtherOn":   {4, 5, "", true},
		"NothingAtFirst":     {0, 0, "", true},
		"AtTheLastByte":      {9, 9, "", true},
		"AtTheEnd":           {10, 10, "", false},
		"BytesBefore":        {4, 3, "abc", true},
		"BytesFurtherOn":     {4, 5, "abc", true},
	} {
		offset, body = strconv.FormatInt(c.said, 10), []byte(c.bytes)
		a, err := acme.GetPiece(t.Context(), jetstream.FileRequest{Name: "acme/a", Offset: c.asked, Limit: 3})
		_, failed := errors.AsType[*jetstream.Failed](err)
		if failed != c.fails || (err != nil) != c.fails || string(a.Body) != c.bytes {
			t.Errorf("%s: %q, %v", name, a.Body, err)
		}
	}
}
