package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	listsKept    = 500 // files; most have some names, and that of the classes some thousands
	classesRoute = "object_info"
	foldersRoute = "models/"
	foundMost    = 100 // names in one answer
)

// found is a class or model of a host.
type found struct {
	Kind string `json:"kind"` // class, or the folder of a model
	Name string `json:"name"`
}

// capabilityAnswer is what a host can run, of which an answer has a part.
type capabilityAnswer struct {
	Known   bool      `json:"known"` // false: its agent has stored no catalogue
	Time    time.Time `json:"time,omitzero"`
	Classes int       `json:"classes"`
	Models  int       `json:"models"`
	Found   []found   `json:"found"`
	More    int       `json:"more,omitempty"` // that also have the text
}

// capability says how many classes and models a host has, and names those that have a text in their name.
func (d *Dashboard) capability(ctx context.Context, _ Viewer, request map[string]json.RawMessage) (json.RawMessage, error) {
	host, err := hostOf(request)
	if err != nil {
		return nil, err
	}
	var text string
	if raw := request["find"]; raw != nil {
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, &jetstream.BadRequest{Message: "find must be a text"}
		}
	}
	text = strings.ToLower(text)
	catalog, known, err := d.q.Catalog(ctx, host)
	if err != nil {
		return nil, err
	}
	answer := capabilityAnswer{Known: known, Time: catalog.Time, Found: []found{}}
	for _, route := range slices.Sorted(maps.Keys(catalog.Blobs)) {
		kind, ofModels := strings.CutPrefix(route, foldersRoute)
		if route != classesRoute && !ofModels {
			continue
		}
		names, err := d.namesOf(ctx, catalog.Blobs[route], ofModels)
		if errors.Is(err, queue.ErrNoFile) { // it has expired
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the catalogue of %s: %w", host, err)
		}
		if ofModels {
			answer.Models += len(names)
		} else {
			answer.Classes, kind = len(names), "class"
		}
		answer.add(kind, names, text)
	}
	return json.Marshal(answer)
}

func (a *capabilityAnswer) add(kind string, names []string, text string) {
	for _, name := range names {
		switch {
		case text == "" || !strings.Contains(strings.ToLower(name), text):
		case len(a.Found) < foundMost:
			a.Found = append(a.Found, found{kind, name})
		default:
			a.More++
		}
	}
}

// namesOf reads the names in a file of a catalogue: of models a list, of classes the keys of an object.
func (d *Dashboard) namesOf(ctx context.Context, digest string, list bool) ([]string, error) {
	names, known := d.lists.get(digest)
	if known {
		return names, nil
	}
	body, err := d.q.CatalogBlob(ctx, digest)
	if err != nil {
		return nil, err
	}
	if list {
		names = listedIn(body)
	} else {
		names = keysOf(body)
	}
	slices.Sort(names)
	d.lists.put(digest, names)
	return names, nil
}

// listedIn gives the texts of a JSON list; anything else in it is left out.
func listedIn(body []byte) []string {
	var values []any
	_ = json.Unmarshal(body, &values) // another form is an empty list
	names := make([]string, 0, len(values))
	for _, v := range values {
		if name, ok := v.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// keysOf gives the keys of a JSON object, without keeping what they stand for.
func keysOf(body []byte) (keys []string) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		var skipped json.RawMessage
		if err != nil || !ok || decoder.Decode(&skipped) != nil {
			return keys
		}
		keys = append(keys, name)
	}
	return keys
}
