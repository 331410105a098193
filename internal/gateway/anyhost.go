package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// modelList is a list of model files, and the hosts that have exactly these.
type modelList struct {
	hosts []string
	names []string       // as the hosts write them
	at    map[string]int // by name with slashes: where it is in names
}

// modelPlace is a host that has a model, and how the host writes its name.
type modelPlace struct {
	host, name string
	at         int // in the host's list
}

// lists are the lists of the files in a folder of models.
func (g *Gateway) lists(ctx context.Context, tenant job.Tenant, folder string) ([]modelList, error) {
	var lists []modelList
	err := g.each(ctx, tenant, "models/"+folder, func(body []byte, hosts []string) {
		l := modelList{hosts: hosts, at: map[string]int{}}
		if texts(bytes.TrimSpace(body), &l.names) {
			for i, name := range l.names {
				l.at[slashed(name)] = i
			}
			lists = append(lists, l)
		}
	})
	return lists, err
}

// placesOf are the hosts that have a file.
func placesOf(lists []modelList, file string) []modelPlace {
	var places []modelPlace
	for _, l := range lists {
		if at, has := l.at[slashed(file)]; has {
			for _, host := range l.hosts {
				places = append(places, modelPlace{host, l.names[at], at})
			}
		}
	}
	return places
}

var errNoModel = &failed{http.StatusNotFound, "not_found", "no host that runs your prompts has this file, or says this of it"}

// fromPlaces is the page of the first place that has one; request says what to ask of a place, and false when it cannot.
func (g *Gateway) fromPlaces(ctx context.Context, places []modelPlace, request func(modelPlace) (queue.PageRequest, error)) (*page, error) {
	last := error(errNoModel)
	for i, p := range places {
		if i == mostPlaces {
			break
		}
		r, err := request(p)
		if err == nil {
			var got *page
			if got, err = g.anyHost(ctx, []string{p.host}, r, errNoModel); err == nil {
				return got, nil
			}
		}
		if errors.Is(last, errNoModel) || !errors.Is(err, errNoModel) {
			last = err
		}
	}
	return nil, last
}

// mostPlaces bounds the hosts of which one file is asked, also of those that are offline.
const mostPlaces = 50

// getMetadata answers what the head of a model file says, of a host that has the file.
func (g *Gateway) getMetadata(w http.ResponseWriter, r *http.Request, of *tenant) error {
	folder := r.PathValue("folder")
	lists, err := g.lists(r.Context(), of.name, folder)
	if err != nil {
		return err
	}
	p, err := g.fromPlaces(r.Context(), placesOf(lists, r.URL.Query().Get("filename")), func(p modelPlace) (queue.PageRequest, error) {
		return queue.PageRequest{Route: "view_metadata/" + folder, Query: url.Values{"filename": {p.name}}}, nil
	})
	if err != nil {
		return err
	}
	return answerPage(w, r, p)
}

// getPreview answers the picture of a model, of a host that has the file. In which of its folders it is, the host says itself: the merged
// list does not show it.
func (g *Gateway) getPreview(w http.ResponseWriter, r *http.Request, of *tenant) error {
	folder, file := r.PathValue("folder"), r.PathValue("file")
	lists, err := g.lists(r.Context(), of.name, folder)
	if err != nil {
		return err
	}
	p, err := g.fromPlaces(r.Context(), placesOf(lists, file), func(p modelPlace) (queue.PageRequest, error) {
		list, err := g.anyHost(r.Context(), []string{p.host}, queue.PageRequest{Route: "experiment/models/" + folder}, errNoModel)
		if err != nil {
			return queue.PageRequest{}, err
		}
		var files []struct {
			Name  string `json:"name"`
			Index int    `json:"pathIndex"`
		}
		_ = json.Unmarshal(list.body, &files) // without it the file is in no folder
		for _, f := range files {
			if f.Name == p.name {
				return queue.PageRequest{Route: "experiment/models/preview/" + folder + "/" + strconv.Itoa(f.Index) + "/" + slashed(f.Name)}, nil
			}
		}
		return queue.PageRequest{}, errNoModel
	})
	if err != nil {
		return err
	}
	viewHeaders(w, path.Base(slashed(file))+".webp", p.kind)
	p.withType(w.Header().Get("Content-Type")).answer(w, r)
	return nil
}

// getDoc answers a page of ComfyUI's help for its nodes, of any host.
func (g *Gateway) getDoc(w http.ResponseWriter, r *http.Request, of *tenant) error {
	file := r.PathValue("file")
	absent := &failed{http.StatusNotFound, "not_found", "no host that runs your prompts has this page of help"}
	if !fileOfPack(file) {
		return absent
	}
	p, err := g.anyHost(r.Context(), g.catalogs.hostsOf(of.name, func(*queue.Catalog) bool { return true }), queue.PageRequest{Route: "docs/" + file}, absent)
	if err != nil {
		return err
	}
	p.withType(readType(file)).answer(w, r)
	return nil
}
