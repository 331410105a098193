package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// PageRequest asks a host's agent for a GET of its ComfyUI.
type PageRequest struct {
	Route string     `json:"route"`           // without a slash before it, such as view_metadata/loras
	Query url.Values `json:"query,omitempty"` // name: values
}

// Page is what ComfyUI has answered, or why the agent has not asked it: 403 for a route that it does not pass on, 413 for an answer that
// is too large, 429 for too many requests at once, 502 when ComfyUI does not answer. Then the body is a text.
type Page struct {
	Status      int
	ContentType string
	Body        []byte
}

const (
	// LargestPage is the most bytes of an answer that an agent passes on.
	LargestPage = 16 << 20
	pageTimeout = 25 * time.Second // less than the time for which an agent may answer
)

// HostPage asks a host's ComfyUI for a route. ErrNoAgent when no agent serves the host.
func (q *Queue) HostPage(ctx context.Context, host string, r PageRequest) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return Page{}, fmt.Errorf("encode the request of a page: %w", err)
	}
	inbox := q.nc.NewInbox()
	sub, err := q.nc.SubscribeSync(inbox)
	if err != nil {
		return Page{}, wrap(err, "ask host %s for /%s", host, r.Route)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	if err := q.nc.PublishMsg(&nats.Msg{Subject: names.HTTPSubject(host), Reply: inbox, Data: body}); err != nil {
		return Page{}, wrap(err, "ask host %s for /%s", host, r.Route)
	}
	var p Page
	for last := false; !last; {
		msg, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, nats.ErrNoResponders) {
			err = ErrNoAgent
		}
		if err == nil {
			last, err = p.take(msg)
		}
		if err != nil {
			return Page{}, fmt.Errorf("ask host %s for /%s: %w", host, r.Route, err)
		}
	}
	return p, nil
}

// take adds a piece of an answer, and reports whether it is the last.
func (p *Page) take(msg *nats.Msg) (last bool, err error) {
	h := msg.Header
	offset, err := strconv.Atoi(h.Get(names.OffsetHeader))
	if err != nil || offset != len(p.Body) || offset+len(msg.Data) > LargestPage {
		return false, fmt.Errorf("a piece of the answer is missing: %w", jetstream.ErrDamaged)
	}
	if offset == 0 {
		p.ContentType = h.Get(names.ContentTypeHeader)
		if p.Status, err = strconv.Atoi(h.Get(names.StatusHeader)); err != nil {
			return false, fmt.Errorf("the answer has no status: %w", jetstream.ErrDamaged)
		}
	}
	p.Body = append(p.Body, msg.Data...)
	return h.Get(names.LastHeader) == "true", nil
}

// ServePages calls answer for every request of a page of a host, each on a goroutine of its own, until ctx ends; then it waits for them.
// More than most at once are answered 429.
func (q *Queue) ServePages(ctx context.Context, host string, most int, answer func(context.Context, PageRequest) Page) error {
	under := make(chan struct{}, most)
	err := q.serve(ctx, names.HTTPSubject(host), func(msg *nats.Msg) {
		select {
		case under <- struct{}{}:
		default:
			q.sendPage(msg, &Page{Status: 429, ContentType: "text/plain", Body: []byte("too many requests at once: try again")})
			return
		}
		go func() {
			defer func() { <-under }()
			var r PageRequest
			p := Page{Status: 400, ContentType: "text/plain", Body: []byte("the request is not a JSON object with route and query")}
			if json.Unmarshal(msg.Data, &r) == nil {
				p = answer(ctx, r)
			}
			q.sendPage(msg, &p)
		}()
	})
	for range most { // all have answered
		under <- struct{}{}
	}
	return err
}

// sendPage answers in pieces. One that cannot be sent is ignored: the sender of the request gets a timeout.
func (q *Queue) sendPage(to *nats.Msg, p *Page) {
	size := q.MaxChunk()
	for offset, last := 0, false; !last; offset += size {
		end := min(len(p.Body), offset+size)
		last = end == len(p.Body)
		header := nats.Header{names.OffsetHeader: {strconv.Itoa(offset)}, names.LastHeader: {strconv.FormatBool(last)}}
		if offset == 0 {
			header[names.StatusHeader], header[names.ContentTypeHeader] = []string{strconv.Itoa(p.Status)}, []string{p.ContentType}
		}
		if err := q.nc.PublishMsg(&nats.Msg{Subject: to.Reply, Header: header, Data: p.Body[offset:end]}); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			q.warn(wrap(err, "answer a request on %s", to.Subject))
			return
		}
	}
}
