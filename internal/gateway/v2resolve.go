package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// resolution is the search for the files that a workflow names.
type resolution struct {
	g       *Gateway
	of      *tenant
	inputs  []job.Input       // of the job
	replace []inputValue      // references, in the workflow's order
	texts   []string          // what replaces them when the workflow runs
	missing []string          // ids of references that lead to no asset
	objects map[string]string // texts that were looked up, and what they name; empty: nothing
}

// resolve finds the files that a workflow names: by references, which become texts, and by the names of files that the tenant has
// uploaded or made. It gives the graph as it is run and the files as inputs of the job. Every reference must lead to an asset of the
// tenant. A text that names no file of the tenant stays as it is, since it may name a file of the hosts.
func (g *Gateway) resolve(ctx context.Context, of *tenant, graph json.RawMessage) (json.RawMessage, []job.Input, error) {
	values, err := valuesOf(graph)
	if err != nil {
		return nil, nil, badRequest("the workflow cannot be read: %s", err)
	}
	s := &resolution{g: g, of: of, objects: map[string]string{}}
	for _, v := range values {
		if id, tagged := referenceOf(v.raw); tagged {
			err = s.reference(ctx, v, id)
		} else if text, is := fileNameOf(v); is {
			err = s.name(ctx, v, text)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(s.missing) > 0 {
		return nil, nil, missingAssets(s.missing)
	}
	graph, err = replaced(graph, s.replace, s.texts)
	return graph, s.inputs, err
}

// reference puts the file of an asset in the place of a reference.
func (s *resolution) reference(ctx context.Context, v inputValue, id string) error {
	a, err := s.g.asset(ctx, s.of, id)
	object := ""
	if err == nil {
		object, err = s.g.inputObject(ctx, s.of, a)
	}
	if _, none := errors.AsType[*refusal](err); none {
		s.missing = append(s.missing, id)
		return nil
	}
	if err != nil {
		return err
	}
	text := cmp.Or(a.FilePath, hashPrefix+a.Blob.Hash)
	s.add(v, object, text)
	s.replace, s.texts = append(s.replace, v), append(s.texts, text)
	return nil
}

// name adds the file that a text names, if there is one.
func (s *resolution) name(ctx context.Context, v inputValue, text string) error {
	object, known := s.objects[text]
	if !known && len(s.objects) < mostInputs {
		var err error
		if object, err = s.g.namedObject(ctx, s.of, text); err != nil {
			return err
		}
		s.objects[text] = object
	}
	if object != "" {
		s.add(v, object, text)
	}
	return nil
}

func (s *resolution) add(v inputValue, object, text string) {
	file, _ := splitFolder(text)
	s.inputs = append(s.inputs, job.Input{Node: v.node, Input: v.input, Object: object, Filename: path.Base(strings.ReplaceAll(file, ":", "-"))})
}

// namedObject is the name in COMFY_INPUTS of the file that a text names: content by its hash, an asset, or what ComfyUI's own API
// finds under it; empty when there is none.
func (g *Gateway) namedObject(ctx context.Context, of *tenant, text string) (string, error) {
	var object string
	var err error
	if hash, is := hashOf(text); is {
		var b *queue.Blob
		if b, err = g.blob(ctx, of, hash); err == nil {
			object, err = g.inputObject(ctx, of, &queue.Asset{Blob: *b})
		}
	} else {
		object, err = g.assetObject(ctx, of, text)
	}
	if _, none := errors.AsType[*refusal](err); none {
		return "", nil
	}
	if object != "" || err != nil {
		return object, err
	}
	return g.objectOf(ctx, of.name, text)
}

// assetObject is the name in COMFY_INPUTS of the newest asset that was uploaded under a name; empty when there is none.
func (g *Gateway) assetObject(ctx context.Context, of *tenant, text string) (string, error) {
	file, folder := splitFolder(text)
	if folder != inputFolder {
		return "", nil
	}
	a, err := g.q.AssetOfPath(ctx, of.name, file)
	if err != nil || a == nil || g.expired(a) {
		return "", err
	}
	return g.inputObject(ctx, of, a)
}

// missingAssets is the answer to references that lead to no asset of the tenant.
func missingAssets(ids []string) error {
	ids = slices.Compact(ids)
	what := strings.Join(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "" }), ", ")
	if what == "" {
		what = "a reference without an id, or one that does not stand for a whole input"
	}
	e := unprocessable("missing_asset", "the workflow refers to assets that you do not have: %s", what)
	e.details = map[string]any{"missing_ids": ids}
	return e
}

// uploadedAsset is assetObject for ComfyUI's own API, by which the tenant may name what it has uploaded through the other.
func (g *Gateway) uploadedAsset(ctx context.Context, name job.Tenant, file string) (string, error) {
	of, err := g.tenant(ctx, name)
	if err != nil {
		return "", err
	}
	object, err := g.assetObject(ctx, of, file)
	if _, none := errors.AsType[*refusal](err); none {
		return "", nil
	}
	return object, err
}
