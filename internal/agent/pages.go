package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// pagesAtOnce bounds the requests that are passed on to one ComfyUI at once, which also bounds the memory for their answers.
const pagesAtOnce = 2

const pageTimeout = 20 * time.Second // for an answer of ComfyUI; whoever asks waits a little longer

// passedOn are the routes of ComfyUI that are passed on, and those below the ones that end with a slash. They describe the
// installation. None has files or settings of a person, names of other folders, or what other jobs have made.
func passedOn() []string {
	return []string{
		"embeddings", "extensions", "extensions/", "features", "global_subgraphs", "global_subgraphs/", "i18n", "models", "models/", "node_replacements",
		"object_info/", "docs/", "view_metadata/", "workflow_templates", "workflow_templates/", "experiment/models", "experiment/models/",
		"etn/languages", "etn/model_info", "etn/model_info/", translateRoute,
	}
}

// translateRoute is one of a node pack for Krita. Below it is a text that may have any characters.
const (
	translateRoute = "etn/translate/"
	longestText    = 4000 // bytes
)

// passes reports whether a route is passed on, with api/ before it or without.
func passes(route string) bool {
	if route == "" || path.Clean("/"+route) != "/"+route {
		return false
	}
	route = strings.TrimPrefix(route, "api/")
	plain := route
	if rest, translates := strings.CutPrefix(route, translateRoute); translates {
		language, text, _ := strings.Cut(rest, "/")
		if strings.Contains(text, "/") || len(text) > longestText {
			return false
		}
		plain = translateRoute + language
	}
	if strings.ContainsAny(plain, "\\?#%") {
		return false
	}
	for _, one := range passedOn() {
		if route == one || strings.HasSuffix(one, "/") && strings.HasPrefix(route, one) {
			return true
		}
	}
	return false
}

// pagesLoop passes GETs on to ComfyUI.
func (h *host) pagesLoop(ctx context.Context) error {
	return h.q.ServePages(ctx, h.name, pagesAtOnce, h.page)
}

func (h *host) page(ctx context.Context, r queue.PageRequest) queue.Page {
	if !passes(r.Route) {
		return refusedPage(http.StatusForbidden, fmt.Sprintf("/%.200s is none of the routes that are passed on", r.Route))
	}
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	p, err := h.comfy.Page(ctx, r.Route, r.Query)
	if err != nil {
		return refusedPage(http.StatusBadGateway, "ComfyUI does not answer: "+comfy.Reason(err))
	}
	defer p.Body.Close()
	body, err := io.ReadAll(io.LimitReader(p.Body, queue.LargestPage+1))
	switch {
	case err != nil:
		return refusedPage(http.StatusBadGateway, "the answer of ComfyUI broke off: "+comfy.Reason(err))
	case len(body) > queue.LargestPage:
		return refusedPage(http.StatusRequestEntityTooLarge, fmt.Sprintf("the answer has more than %d bytes", queue.LargestPage))
	}
	return queue.Page{Status: p.Status, ContentType: p.ContentType, Body: body}
}

func refusedPage(status int, why string) queue.Page {
	return queue.Page{Status: status, ContentType: "text/plain; charset=utf-8", Body: []byte(why)}
}
