package bench

import (
	"bytes"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Flow is how many messages went one way, and their bytes: with the line of the protocol, header and body.
type Flow struct {
	Messages float64 `json:"messages"`
	Bytes    float64 `json:"bytes"`
}

func (f Flow) plus(o Flow) Flow { return Flow{f.Messages + o.Messages, f.Bytes + o.Bytes} }

func (f Flow) times(n float64) Flow { return Flow{f.Messages * n, f.Bytes * n} }

// Classes of messages, by their subjects. The order is that of the table.
const (
	hostPresence       = "presence of hosts"
	slotChange         = "changes of slots"
	dispatcherPresence = "presence of dispatchers"
	jobDelivery        = "jobs"
	offers             = "offers"
	appends            = "events, published"
	eventCopies        = "events, republished"
	acks               = "acks and leases"
	tickets            = "tickets"
	otherBuckets       = "other buckets"
	apiCalls           = "requests to JetStream"
	answers            = "answers"
	others             = "others"
)

// classes has the prefix of the subjects of each class.
var classes = []struct{ class, prefix, suffix string }{
	{hostPresence, "$KV." + names.HostsBucket + ".", ""},
	{slotChange, "comfy.hosts.", ".state"},
	{dispatcherPresence, "$KV." + names.DispatchersBucket + ".", ""},
	{jobDelivery, "comfy.jobs.", ""},
	{offers, "comfy.hosts.", ".offer"},
	{appends, names.AppendPrefix, ""},
	{eventCopies, names.EventsPrefix, ""},
	{acks, "$JS.ACK.", ""},
	{tickets, "$KV." + names.WaitingBucket + ".", ""},
	{otherBuckets, "$KV.", ""},
	{apiCalls, "$JS.", ""},
	{answers, "_INBOX", ""},
	{others, "", ""},
}

func classOf(subject string) string {
	for _, c := range classes {
		if strings.HasPrefix(subject, c.prefix) && strings.HasSuffix(subject, c.suffix) {
			return c.class
		}
	}
	return others
}

// meter counts what goes one way through a connection to NATS, by class. It reads the protocol of NATS' clients.
type meter struct {
	mu     sync.Mutex      // guards all below
	line   []byte          // one that has begun
	body   int             // bytes that are still to come of a message's header and body
	counts map[string]Flow // by class
}

func newMeter() *meter { return &meter{counts: map[string]Flow{}} }

// take reads what comes next on the connection.
func (m *meter) take(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(p) > 0 {
		if m.body > 0 {
			n := min(m.body, len(p))
			m.body, p = m.body-n, p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			m.line = append(m.line, p...)
			return
		}
		line := p[:end+1]
		if len(m.line) > 0 {
			m.line = append(m.line, line...)
			line = m.line
		}
		m.count(line)
		m.line, p = m.line[:0], p[end+1:]
	}
}

// count takes in one line. Of those that begin a message the subject comes first and the size of header and body last.
func (m *meter) count(line []byte) {
	verb, rest, found := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
	if !found {
		return
	}
	switch string(verb) {
	case "PUB", "HPUB", "MSG", "HMSG":
	default:
		return
	}
	subject, _, _ := bytes.Cut(rest, []byte(" "))
	size, err := strconv.Atoi(string(rest[bytes.LastIndexByte(rest, ' ')+1:]))
	if err != nil {
		return
	}
	m.body = size + len("\r\n")
	class := classOf(string(subject))
	m.counts[class] = m.counts[class].plus(Flow{1, float64(len(line) + m.body)})
}

func (m *meter) total() map[string]Flow {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.counts)
}

// meters count both ways of all connections of a process.
type meters struct {
	address  string
	sent     *meter
	received *meter
}

// InProcessConn connects to NATS over TCP. In this form nats.go takes a connection to which daemon.Connect can add its
// gathered writes.
func (m *meters) InProcessConn() (net.Conn, error) {
	c, err := net.DialTimeout("tcp", m.address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &metered{c, m}, nil
}

type metered struct {
	net.Conn
	by *meters
}

// Read counts what comes.
func (c *metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.by.received.take(p[:n])
	return n, err
}

// Write counts what goes.
func (c *metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.by.sent.take(p[:n])
	return n, err
}
