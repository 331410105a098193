package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Krita asks a node pack of its own, comfyui-tooling-nodes, under /api/etn/. What it says of an installation is asked of hosts that have the
// pack.
const (
	etnRoute   = "api/etn/"
	etnClasses = "ETN_" // what the names of the pack's classes begin with
	// etnPage is how many files a host looks into for one answer, as Krita itself asks for.
	etnPage = 8
	// mostInfos is how many files one answer has when the client does not say.
	mostModelInfos    = 1000
	longestTranslated = 4000 // bytes that are translated
)

var errNoETN = &failed{http.StatusNotFound, "not_found", "no host that runs your prompts has the node pack comfyui-tooling-nodes, or it does not answer this"}

// etnHosts are the hosts that have the pack. What cannot be read of them is left out.
func (g *Gateway) etnHosts(ctx context.Context, tenant job.Tenant) []string {
	hosts, _ := g.catalogs.withClass(ctx, tenant, func(d classDef) bool { return strings.HasPrefix(d.class, etnClasses) })
	return hosts
}

func (g *Gateway) getLanguages(w http.ResponseWriter, r *http.Request, of *tenant) error {
	return g.answerETN(w, r, of, "languages")
}

func (g *Gateway) getTranslation(w http.ResponseWriter, r *http.Request, of *tenant) error {
	text := r.PathValue("text")
	if len(text) > longestTranslated {
		return &failed{http.StatusRequestEntityTooLarge, "payload_too_large", "the text is too long: have it translated in parts of at most 4000 bytes"}
	}
	return g.answerETN(w, r, of, "translate/"+r.PathValue("language")+"/"+text)
}

func (g *Gateway) answerETN(w http.ResponseWriter, r *http.Request, of *tenant, route string) error {
	p, err := g.anyHost(r.Context(), g.etnHosts(r.Context(), of.name), queue.PageRequest{Route: etnRoute + route}, errNoETN)
	if err != nil {
		return err
	}
	return answerPage(w, r, p)
}

// getModelInfo answers what kind of model each file of a folder is. The list is that of all hosts together; of each file a host is asked
// that has it.
func (g *Gateway) getModelInfo(w http.ResponseWriter, r *http.Request, of *tenant) error {
	ctx, cancel := context.WithTimeout(r.Context(), tunnelTime)
	defer cancel()
	folder := cmp.Or(r.PathValue("folder"), "checkpoints")
	names, known, err := g.list(ctx, of, "models/"+folder)
	if err != nil {
		return err
	}
	if !known {
		return &failed{http.StatusBadRequest, "invalid_folder", "no host has this folder of models"}
	}
	hosts := g.etnHosts(ctx, of.name)
	if len(hosts) == 0 {
		return errNoETN
	}
	lists, err := g.lists(ctx, of.name, folder)
	if err != nil {
		return err
	}
	offset, limit := numberOf(r, "offset", 0), numberOf(r, "limit", mostModelInfos)
	from := min(offset, len(names))
	page := names[from : from+min(limit, mostModelInfos, len(names)-from)]
	infos := map[string]any{}
	for _, name := range page {
		places := slices.DeleteFunc(placesOf(lists, name), func(p modelPlace) bool { return !slices.Contains(hosts, p.host) })
		infos[name], err = g.modelInfo(ctx, folder, places)
		if err != nil {
			return err
		}
	}
	if r.URL.Query().Has("limit") {
		infos["_meta"] = map[string]int{"offset": offset, "count": len(page), "total": len(names)}
	}
	answerJSON(w, http.StatusOK, infos)
	return nil
}

// modelInfo is what a host says of a file; that it is unknown when none does.
func (g *Gateway) modelInfo(ctx context.Context, folder string, places []modelPlace) (any, error) {
	var info json.RawMessage
	for i, p := range places {
		if i == mostPlaces {
			break
		}
		query := url.Values{"offset": {strconv.Itoa(p.at - p.at%etnPage)}, "limit": {strconv.Itoa(etnPage)}}
		got, err := g.anyHost(ctx, []string{p.host}, queue.PageRequest{Route: etnRoute + "model_info/" + folder, Query: query}, errNoETN)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var infos map[string]json.RawMessage
		if err == nil && json.Unmarshal(got.body, &infos) == nil {
			if info = infos[p.name]; info != nil {
				return info, nil
			}
		}
	}
	return map[string]string{"base_model": "unknown", "error": "no host that has this file says what it is"}, nil
}

// numberOf is a number in the query of a request that is not negative.
func numberOf(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

// workflowExchange answers Krita's wish for workflows that a page publishes. None comes: publishing is refused.
func (g *Gateway) workflowExchange(w http.ResponseWriter, r *http.Request, of *tenant) error {
	if action := r.PathValue("action"); action != "subscribe" && action != "unsubscribe" {
		return g.refuseETN(w, r, of)
	}
	answerJSON(w, http.StatusOK, map[string]string{"status": "success"})
	return nil
}

// refuseETN answers what would leave something on one host.
func (g *Gateway) refuseETN(http.ResponseWriter, *http.Request, *tenant) error {
	return &failed{
		http.StatusNotImplemented, "not_implemented",
		"this gateway does not carry models and workflows of /api/etn: they would stay on one host, and another may run the prompt",
	}
}
