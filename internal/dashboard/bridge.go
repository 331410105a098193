package dashboard

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// use is what a call needs of its caller.
type use int

const (
	never   use = iota
	reads       // changes nothing
	lists       // changes nothing as long as its request only says what to list
	changes     // changes something
)

// ofOperators are the calls comfy.api.<call> that the page may make.
var ofOperators = map[string]use{
	"overview": reads, "jobs": reads, "job": reads, "status": reads, "why": reads, "waiting": reads, "workflows": reads,
	"queue": reads, "hosts": reads, "blocks": reads, "dead": reads, "dispatchers": reads, "settings": reads,
	"affinity": lists, "tenants": lists,
	picturesCall: reads, thumbsCall: reads, natsCall: reads, capabilityCall: reads, hostEventsCall: reads,
	"cancel": changes, "requeue": changes, "drain": changes, "unblock": changes,
	"webhooks": reads, "webhooks.test": changes, "webhooks.redeliver": changes, "webhooks.set": changes,
}

// ofTenants are the calls comfy.tenants.<tenant>.<call> that the page of a tenant may make.
var ofTenants = map[string]use{
	"jobs": reads, "job": reads, "status": reads, "why": reads, "waiting": reads, "workflows": reads,
	"queue": reads, "dead": reads, picturesCall: reads, thumbsCall: reads, "cancel": changes, "requeue": changes,
	"webhooks": reads, "webhooks.test": changes, "webhooks.redeliver": changes,
}

const (
	mostRequest = 2 << 20 // bytes: why takes a whole workflow
	zipFrom     = 2 << 10 // bytes from which on an answer is compressed
	mostBy      = 64      // bytes of a caller's name and address
	mostFrom    = 45      // bytes of an address: the longest one of IPv6
)

// call makes a call for a viewer and gives its answer as it came.
func (d *Dashboard) call(w http.ResponseWriter, r *http.Request) {
	who, name := viewerOf(r), r.PathValue("call")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostRequest))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "the request could not be read: "+err.Error())
		return
	}
	var request map[string]json.RawMessage
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			refuse(w, http.StatusBadRequest, "the request is not a JSON object: "+err.Error())
			return
		}
	}
	if request == nil { // of an empty body, or of null
		request = map[string]json.RawMessage{}
	}
	needs := who.needs(name, request)
	switch {
	case needs == never:
		refuse(w, http.StatusNotFound, "the page has no call "+quoted(name)+" for you")
		return
	case needs == changes && who.Role == Look:
		refuse(w, http.StatusForbidden, "you may look and not change anything: log in with a password that may act")
		return
	case needs == changes && r.Method != http.MethodPost:
		refuse(w, http.StatusMethodNotAllowed, "a call that changes something must be a POST")
		return
	}
	answer, err := d.answer(r, who, name, needs, request)
	if err != nil {
		refuse(w, statusOf(err), err.Error())
		return
	}
	writeJSON(w, r, answer)
}

// needs says what a request needs of the viewer who makes it.
func (v Viewer) needs(name string, request map[string]json.RawMessage) use {
	if v.Role == OfTenant {
		return ofTenants[name]
	}
	needs := ofOperators[name]
	if needs != lists {
		return needs
	}
	for field := range request {
		if field != "after" && field != "limit" {
			return changes
		}
	}
	return reads
}

// answer asks the dispatchers. Viewers who ask the same at about the same time share an answer, except for changes.
func (d *Dashboard) answer(r *http.Request, who Viewer, name string, needs use, request map[string]json.RawMessage) (json.RawMessage, error) {
	if needs == changes {
		request["by"], _ = json.Marshal(d.callerOf(r)) // a string can always be encoded
		defer d.shared.forget()                        // who has changed something must see it
		return d.ask(r.Context(), who, name, request)
	}
	key, err := json.Marshal(request) // in the order of the fields' names
	if err != nil {
		return nil, err
	}
	return d.shared.get(string(who.Tenant)+" "+name+" "+string(key), func() (json.RawMessage, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), answerTimeout) // another viewer may wait for it too
		defer cancel()
		if answer := d.answersItself(name); answer != nil {
			return answer(ctx, who, request)
		}
		return d.ask(ctx, who, name, request)
	})
}

func (d *Dashboard) ask(ctx context.Context, who Viewer, name string, request any) (answer json.RawMessage, err error) {
	if who.Role == OfTenant {
		err = d.q.CallOf(ctx, who.Tenant, name, request, &answer)
		return answer, err
	}
	err = d.q.Call(ctx, name, request, &answer)
	return answer, err
}

// callerOf is who changes something, as the event of the change will say: the name that the viewer has given, and the address.
func (d *Dashboard) callerOf(r *http.Request) string {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	if forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ","); d.cfg.URL != nil && forwarded != "" { // the proxy adds the last one
		from = strings.TrimSpace(forwarded[strings.LastIndexByte(forwarded, ',')+1:])
	}
	from = " from " + from[:min(len(from), mostFrom)]
	name := r.Header.Get("Comfy-By")
	if plain, err := url.PathUnescape(name); err == nil { // the page escapes it, since a header takes few letters
		name = plain
	}
	name = cmp.Or(strings.TrimSpace(name), "page")
	return strings.ToValidUTF8(name[:min(len(name), mostBy-len(from))], "") + from // a long name leaves the address whole
}

// statusOf is the HTTP status of an error of a call.
func statusOf(err error) int {
	code, _ := strconv.Atoi(jetstream.Code(err))
	if _, known := errors.AsType[*jetstream.Failed](err); code == http.StatusInternalServerError && !known {
		return http.StatusServiceUnavailable // no dispatcher has answered
	}
	return code
}

func writeJSON(w http.ResponseWriter, r *http.Request, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Encoding")
	if len(body) < zipFrom || !accepts(r, "gzip") {
		_, _ = w.Write(body) // the viewer may be gone
		return
	}
	h.Set("Content-Encoding", "gzip")
	zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
	_, _ = zip.Write(body)
	_ = zip.Close()
}

// shared are answers that several viewers get: many pages that are open at the same time ask for the same after the same event.
type shared struct {
	now func() time.Time

	mu    sync.Mutex // guards all below
	known map[string]*sharedAnswer
}

// sharedAnswer is one answer, or an answer that is on its way.
type sharedAnswer struct {
	done  chan struct{} // closed when the three below are set
	until time.Time
	body  json.RawMessage
	err   error
}

const sharedFor = 300 * time.Millisecond

// get gives the answer that is known for a key, or that ask gives.
func (s *shared) get(key string, ask func() (json.RawMessage, error)) (json.RawMessage, error) {
	mine, ours := s.join(key)
	if !ours {
		<-mine.done
		return mine.body, mine.err
	}
	mine.body, mine.err = ask()
	s.mu.Lock()
	defer s.mu.Unlock()
	mine.until = s.now().Add(sharedFor)
	if mine.err != nil && s.known[key] == mine {
		delete(s.known, key)
	}
	close(mine.done)
	return mine.body, mine.err
}

// forget drops all answers, so that dispatchers are asked again.
func (s *shared) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

// join gives the answer of a key; ours means that the caller must ask for it.
func (s *shared) join(key string) (answer *sharedAnswer, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	maps.DeleteFunc(s.known, func(_ string, a *sharedAnswer) bool { return !a.until.IsZero() && !now.Before(a.until) })
	if found := s.known[key]; found != nil {
		return found, false
	}
	answer = &sharedAnswer{done: make(chan struct{})}
	if s.known == nil {
		s.known = map[string]*sharedAnswer{}
	}
	s.known[key] = answer
	return answer, true
}
