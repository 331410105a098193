package dashboard

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Limits of a stream, which tests go beyond.
const (
	RingRows   = ringRows
	RingSlack  = ringSlack
	MostMissed = mostMissed
)

// Close ends the hub, as Run does.
func (d *Dashboard) Close() { d.hub.close() }

// Linger sets how long events are followed after the last viewer.
func (d *Dashboard) Linger(t time.Duration) { d.hub.linger = t }

// Follows reports whether stored events are followed.
func (d *Dashboard) Follows() bool {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	return d.hub.stop != nil
}

// Viewers is how many streams are open.
func (d *Dashboard) Viewers() int {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	return d.hub.viewers
}

// CallerOf is who changes something by a request.
func (d *Dashboard) CallerOf(r *http.Request) string { return d.callerOf(r) }

// SharedAnswers asks for n different answers, each when the one before is too old to be shared, and gives how many are kept.
func SharedAnswers(n int) int {
	now := time.Now()
	s := shared{now: func() time.Time { return now }}
	for i := range n {
		_, _ = s.get(strconv.Itoa(i), func() (json.RawMessage, error) { return nil, nil })
		now = now.Add(sharedFor)
	}
	return len(s.known)
}

// Sources are the page's files by path, as they are in the repository.
func Sources() (map[string][]byte, error) {
	found := map[string][]byte{}
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found[strings.TrimPrefix(name, "assets/")], err = embedded.ReadFile(name)
		return err
	})
	return found, err
}

// Served are the files that a browser is given, by path and compressed, with the shell as index.html.
func Served() (map[string][]byte, error) {
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	a.files[shellName] = a.shells[Act]
	zipped := map[string][]byte{}
	for name, f := range a.files {
		zipped[name] = f.zipped()
	}
	return zipped, nil
}

// Joined makes one script of modules.
func Joined(files map[string][]byte, first string) ([]byte, error) { return joined(files, first) }

// Hub is a hub without NATS, and one of its viewers.
type Hub struct {
	h  *hub
	at place
	s  stream
}

// NewHub makes a hub that has no events yet.
func NewHub() *Hub {
	h := &Hub{h: newHub(nil, nil, 1), at: place{who: Viewer{Role: Act}}}
	h.s.now = time.Now
	return h
}

// Take gives the hub a stored event.
func (h *Hub) Take(n *jetstream.Note) { h.h.add(context.Background(), rowOf(n)) }

// Frame is what the viewer is sent of the events that came since the last frame.
func (h *Hub) Frame() string {
	news := h.h.news(h.at)
	h.at.sequence, h.at.version, h.at.epoch = news.last, news.version, news.epoch
	h.s.text.Reset()
	h.s.events(news.events, news.last)
	return h.s.text.String()
}
