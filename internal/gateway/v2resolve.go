package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// mostNames is how many different texts of a workflow are looked up as names of uploaded files.
const mostNames = 512

// resolve finds the files that a workflow names: by references, which become texts, and by the names of files that the tenant has
// uploaded. It gives the graph as it is run and the files as inputs of the job. Every reference must lead to an asset of the tenant.
// A text that names no upload stays as it is, since it may name a file of the hosts.
func (g *Gateway) resolve(ctx context.Context, of *tenant, graph json.RawMessage) (json.RawMessage, []job.Input, error) {
	values, err := inputsOf(graph)
	if err != nil {
		return nil, nil, badRequest("the workflow cannot be read: %s", err)
	}
	var inputs []job.Input
	var replace []inputValue
	var texts, missing []string
	named := map[string]*queue.Asset{}
	for _, v := range values {
		a, tagged, err := g.referred(ctx, of, v.raw, named)
		if tagged && (a == nil || err != nil) {
			if _, is := errors.AsType[*refusal](err); err != nil && !is {
				return nil, nil, err
			}
			id, _ := referenceOf(v.raw)
			missing = append(missing, id)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if a == nil {
			continue
		}
		in, text, err := g.inputOf(ctx, of, a)
		if _, gone := errors.AsType[*refusal](err); gone && tagged {
			missing = append(missing, a.ID)
			continue
		} else if gone {
			continue // a host may have a file of this name
		}
		if err != nil {
			return nil, nil, err
		}
		in.Node, in.Input = v.node, v.input
		inputs = append(inputs, in)
		if tagged {
			replace, texts = append(replace, v), append(texts, text)
		}
	}
	if len(missing) > 0 {
		return nil, nil, missingAssets(missing)
	}
	graph, err = replaced(graph, replace, texts)
	return graph, inputs, err
}

// referred is the asset that a value refers to or names; nil when there is none. tagged says that it is meant as a reference.
func (g *Gateway) referred(ctx context.Context, of *tenant, raw json.RawMessage, named map[string]*queue.Asset) (a *queue.Asset, tagged bool, err error) {
	id, tagged := referenceOf(raw)
	if tagged {
		if id == "" {
			return nil, true, nil
		}
		a, err = g.asset(ctx, of, id)
		return a, true, err
	}
	name, is := fileNameOf(raw)
	if !is {
		return nil, false, nil
	}
	a, known := named[name]
	if !known && len(named) < mostNames {
		if a, err = g.assetOfName(ctx, of, name); err != nil {
			return nil, false, err
		}
		named[name] = a
	}
	return a, false, nil
}

// assetOfName finds what the tenant has uploaded under a name, or the content of a hash; nil when there is none.
func (g *Gateway) assetOfName(ctx context.Context, of *tenant, name string) (*queue.Asset, error) {
	if hash, is := hashOf(name); is {
		b, err := g.blob(ctx, of, hash)
		if _, none := errors.AsType[*refusal](err); none {
			return nil, nil //nolint:nilnil // there is none
		}
		if err != nil {
			return nil, err
		}
		return &queue.Asset{Blob: *b}, nil
	}
	a, err := g.q.AssetOfPath(ctx, of.name, name)
	if err != nil || a == nil || g.expired(a) {
		return nil, err
	}
	return a, nil
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
