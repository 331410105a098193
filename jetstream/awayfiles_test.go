package jetstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// leaving answers calls on a subject once, and then again from back on. It tells each time that it has gone.
func leaving(t *testing.T, url, subject string, answer nats.MsgHandler) (gone <-chan struct{}, back func()) {
	t.Helper()
	nc, left := connect(t, url), make(chan struct{}, 1)
	var first *nats.Subscription
	first = must(nc.Subscribe(subject, func(msg *nats.Msg) {
		must(0, first.Unsubscribe())
		must(0, nc.Flush())
		answer(msg)
		left <- struct{}{}
	}))
	must(0, nc.Flush())
	return left, func() { must(nc.Subscribe(subject, answer)) }
}

// receives waits until a connection has received something after so many messages.
func receives(t *testing.T, nc *nats.Conn, after uint64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for nc.Stats().InMsgs <= after {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("nothing is asked")
		}
	}
}

// That no dispatcher runs ends a file that was not begun.
func TestAFileThatIsBegunWaitsForADispatcher(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	get := func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		end := len(longFile)
		if r.Offset == 0 {
			end = jetstream.FileChunkSize
		} else {
			end = min(end, int(r.Offset)+r.Limit)
		}
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{"Comfy-File-Size": {strconv.Itoa(len(longFile))}, "Comfy-File-Digest": {digestOf(longFile)}, "Comfy-Offset": {strconv.FormatInt(r.Offset, 10)}}
		answer.Data = longFile[r.Offset:end]
		must(0, msg.RespondMsg(answer))
	}
	var stored bytes.Buffer
	put := func(msg *nats.Msg) {
		stored.Write(msg.Data)
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{"Comfy-Offset": {strconv.Itoa(stored.Len())}, "Comfy-Cursor": {"c"}}
		answer.Data = must(json.Marshal(jetstream.File{Digest: msg.Header.Get("Comfy-File-Digest")}))
		must(0, msg.RespondMsg(answer))
	}
	nc := connect(t, url)
	acme := jetstream.NewClient(nc, "acme")
	_, back := leaving(t, url, "comfy.tenants.acme.file.get", get)
	r, _, err := acme.OpenFile(t.Context(), "acme/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before, ended := nc.Stats().InMsgs, make(chan error, 1)
	go func() {
		body, err := io.ReadAll(r)
		if !bytes.Equal(body, longFile) {
			err = errors.Join(err, errors.New("the file has other bytes"))
		}
		ended <- err
	}()
	receives(t, nc, before)
	back()
	if err := <-ended; err != nil {
		t.Errorf("read: %v", err)
	}
	gone, back := leaving(t, url, "comfy.tenants.acme.file.put", put)
	before = nc.Stats().InMsgs
	go func() {
		_, err := acme.PutFile(t.Context(), "acme/a", "", bytes.NewReader(longFile))
		ended <- err
	}()
	<-gone
	receives(t, nc, before+1)
	back()
	if err := <-ended; err != nil || !bytes.Equal(stored.Bytes(), longFile) {
		t.Errorf("put: %v, %d bytes", err, stored.Len())
	}
}

func TestAFileThatIsClosedIsAskedForNoLonger(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	asked := make(chan int64, 10)
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		if asked <- r.Offset; r.Offset > 0 {
			return // no answer comes
		}
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{"Comfy-File-Size": {strconv.Itoa(len(longFile))}, "Comfy-Offset": {"0"}, "Comfy-In-Order": {"true"}}
		answer.Data = longFile[:1000]
		must(0, msg.RespondMsg(answer))
	})
	r, _, err := jetstream.NewClient(connect(t, url), "acme").OpenFile(t.Context(), "acme/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(r)
		ended <- err
	}()
	for at := <-asked; at != 1000; at = <-asked {
	}
	must(0, r.Close())
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the reading ended with %v", err)
	}
}

// A message of NATS has the bytes of a piece and its headers.
func TestAPieceOfAFileHasHalfOfWhatAMessageMayHave(t *testing.T) {
	t.Parallel()
	for most, want := range map[int32]int{1 << 20: jetstream.FileChunkSize, 1<<20 - 2: jetstream.FileChunkSize - 1, 64 << 10: 32 << 10, 8 << 20: jetstream.FileChunkSize} {
		s := must(server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, MaxPayload: most, NoLog: true, NoSigs: true}))
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("NATS does not start")
		}
		if got := jetstream.ChunkSize(connect(t, s.ClientURL())); got != want {
			t.Errorf("with messages of %d bytes a piece has %d, want %d", most, got, want)
		}
	}
}
