package jetstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// bubbleNATS is as much of NATS as requests need, without a network, so that a bubble's time goes by while its clients wait. It
// gives the answers itself.
type bubbleNATS struct {
	answer func(n int, subject string) *nats.Msg // to request n, from 1; nil: none
	asked  []time.Duration                       // when each request came
	begun  time.Time
	conn   net.Conn
}

// connectInBubble connects to a NATS that gives answers.
func connectInBubble(t *testing.T, answer func(n int, subject string) *nats.Msg) (*bubbleNATS, *nats.Conn) {
	t.Helper()
	client, server := net.Pipe()
	b := &bubbleNATS{answer: answer, begun: time.Now(), conn: client}
	go b.serve(server)
	nc, err := nats.Connect("", nats.InProcessServer(b), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return b, nc
}

// InProcessConn is the client's end of its only connection.
func (b *bubbleNATS) InProcessConn() (net.Conn, error) { return b.conn, nil }

func (b *bubbleNATS) serve(conn net.Conn) {
	says := make(chan string, 1000)
	defer close(says)
	go func() {
		for text := range says {
			_, _ = io.WriteString(conn, text) // the client may have left
		}
	}()
	says <- "INFO {\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n"
	inbox := ""
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch words[0] {
		case "PING":
			says <- "PONG\r\n"
		case "SUB":
			if strings.HasPrefix(words[1], nats.InboxPrefix) {
				inbox = words[len(words)-1]
			}
		case "PUB", "HPUB":
			must(r.Discard(must(strconv.Atoi(words[len(words)-1])) + len("\r\n")))
			b.asked = append(b.asked, time.Since(b.begun))
			if answer := b.answer(len(b.asked), words[1]); answer != nil {
				says <- wire(words[2], inbox, answer)
			}
		}
	}
}

// wire is a message as NATS sends it to a subscription.
func wire(subject, subscription string, msg *nats.Msg) string {
	header := "NATS/1.0\r\n"
	for name := range msg.Header {
		header += name + ": " + msg.Header.Get(name) + "\r\n"
	}
	header += "\r\n"
	return fmt.Sprintf("HMSG %s %s %d %d\r\n%s%s\r\n", subject, subscription, len(header), len(header)+len(msg.Data), header, msg.Data)
}

// refusal is an answer that carries an error.
func refusal(err error) *nats.Msg {
	return &nats.Msg{Header: nats.Header{"Nats-Service-Error": {err.Error()}, "Nats-Service-Error-Code": {jetstream.Code(err)}}}
}
