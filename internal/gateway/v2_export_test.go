package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Reference is referenceOf.
func Reference(raw string) (id string, tagged bool) { return referenceOf(json.RawMessage(raw)) }

// Replaced is a workflow with texts in place of the inputs at some positions of valuesOf.
func Replaced(workflow string, texts map[int]string) (string, error) {
	values, err := valuesOf([]byte(workflow))
	if err != nil {
		return "", err
	}
	var at []inputValue
	var put []string
	for i, v := range values {
		if text, is := texts[i]; is {
			at, put = append(at, v), append(put, text)
		}
	}
	out, err := replaced([]byte(workflow), at, put)
	return string(out), err
}

// Submit is what readSubmit makes of a body: its labels and key, or the code of the answer.
func Submit(body []byte) (labels map[string]string, key, code string) {
	_, labels, key, err := readSubmit(body)
	if err != nil {
		return nil, "", refusalOf(err).code
	}
	return labels, key, ""
}

// Cursor is the cursor behind a job, and what it is read as.
func Cursor(created time.Time, id job.ID) (cursor string, back time.Time, same job.ID, err error) {
	cursor = place{created, id}.cursor()
	p, err := placeOf(cursor)
	return cursor, p.created, p.id, err
}

// ReadCursor is placeOf.
func ReadCursor(cursor string) error {
	_, err := placeOf(cursor)
	return err
}

// Filters is filtersOf.
func Filters(query url.Values) (map[string]string, error) { return filtersOf(query) }

// Page gives the ids of pageOf and the cursor behind it.
func Page(rows []Row, filters map[string]string, cursor string, limit int) (ids []string, next string, err error) {
	var after *place
	if cursor != "" {
		p, err := placeOf(cursor)
		if err != nil {
			return nil, "", err
		}
		after = &p
	}
	list := pageOf(rows, filters, after, limit)
	for _, item := range list.Jobs {
		ids = append(ids, item.ID)
	}
	return ids, list.NextCursor, nil
}

// Shown is a job as the Comfy API v2 shows it, at http://gw, with files and events that are kept for a day.
func Shown(row *Row, live *jetstream.Progress) any {
	return (&v2View{base: "http://gw", age: 24 * time.Hour, log: 72 * time.Hour}).job(row, live)
}

// ProgressOf is progressOf.
func ProgressOf(p *jetstream.Progress) any { return progressOf(p) }

// OutputType is outputType.
func OutputType(o *job.Output) string { return outputType(o) }

// FormTags reads a form of n tags, and gives how many were read before the answer and its code; none when all are taken.
func FormTags(n int) (read int, code string, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for range n {
		if err := form.WriteField("tags", "tag"); err != nil {
			return 0, "", err
		}
	}
	if err := form.Close(); err != nil {
		return 0, "", err
	}
	u := &assetForm{}
	for parts := multipart.NewReader(&body, form.Boundary()); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return len(u.tags), "", nil
		}
		if err != nil {
			return 0, "", err
		}
		if err := u.readField(part); err != nil {
			return len(u.tags), refusalOf(err).code, nil
		}
	}
}

// AnsweredLate is the status with which an error is answered after the context of its request has ended.
func AnsweredLate(err error) int {
	g := &Gateway{log: slog.New(slog.DiscardHandler), tenants: map[job.Tenant]*tenant{"acme": {name: "acme"}}}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), callerKey{}, caller{tenant: "acme"}))
	cancel()
	w := httptest.NewRecorder()
	g.servingV2(routeNone, func(http.ResponseWriter, *http.Request, *tenant) error { return err }).
		ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v2/jobs", http.NoBody))
	return w.Code
}

// WrongPath is wrongPath.
func WrongPath(path string) string { return wrongPath(path) }

// Stream is a stream of events of a job in a gateway without NATS.
type Stream struct {
	g  *Gateway
	of *tenant
	id job.ID
}

// NewStream makes one whose job has a row.
func NewStream(row *Row) *Stream {
	q := &queue.Queue{}
	s := &Stream{
		g:  &Gateway{q: q, leaving: make(chan struct{})},
		of: &tenant{name: "acme", rows: newRows(q, "acme"), live: newLiveJobs()}, id: row.Job,
	}
	s.Put(row)
	return s
}

// Put changes the job.
func (s *Stream) Put(row *Row) {
	s.of.rows.mu.Lock()
	defer s.of.rows.mu.Unlock()
	s.of.rows.put(row)
}

// Live sends a live message of the job.
func (s *Stream) Live(p *jetstream.Progress, preview []byte) {
	s.of.live.receive(&queue.Live{Job: s.id, Progress: p, ContentType: "image/jpeg", Preview: preview}, time.Now())
}

// Leave stops the gateway.
func (s *Stream) Leave() { close(s.g.leaving) }

// Run sends the stream until it ends.
func (s *Stream) Run(ctx context.Context, w http.ResponseWriter) error {
	row, _ := s.of.rows.Row(s.id)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://gw/api/v2/jobs/x/events", http.NoBody)
	st := &stream{g: s.g, r: r, of: s.of, id: s.id, w: w, rc: http.NewResponseController(w), view: s.g.viewOf(r)}
	return st.run(&row)
}
