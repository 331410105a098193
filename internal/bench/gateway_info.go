package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// InfoResult is how a gateway serves the object_info of many hosts as that of one.
type InfoResult struct {
	Hosts    int     `json:"hosts"`
	Variants int     `json:"variants"` // different answers among them
	Bytes    int     `json:"bytes"`    // of the merged answer
	Zipped   int     `json:"zipped_bytes"`
	Merge    float64 `json:"merge_ms"` // the first request after a change, which merges
	Requests int     `json:"requests"`
	Zip      Spread  `json:"gzip"`         // whole, compressed
	Same     Spread  `json:"not_modified"` // with the ETag
}

const (
	infoVariants = 10
	infoClasses  = 642 // as many as ComfyUI has itself; the answer has about 0.75 MB
	mostInfos    = 1000
)

// hostInfo is an object_info as large as ComfyUI's; the variants have other checkpoints.
func hostInfo(variant int) []byte {
	info := map[string]any{}
	for i := range infoClasses {
		inputs := map[string]any{}
		for n := range 6 {
			inputs[fmt.Sprintf("input_%d", n)] = []any{"INT", map[string]any{"default": n, "min": 0, "max": uint64(1<<64 - 1), "tooltip": "a value that this node takes, in words that a page shows"}}
		}
		name := fmt.Sprintf("BenchClass%03d", i)
		info[name] = map[string]any{
			"input": map[string]any{"required": inputs}, "output": []string{"IMAGE"}, "output_name": []string{"IMAGE"}, "name": name,
			"display_name": name, "description": "", "python_module": "nodes", "category": "bench", "output_node": false,
		}
	}
	info["CheckpointLoaderSimple"] = map[string]any{"input": map[string]any{"required": map[string]any{
		"ckpt_name": []any{[]string{"shared.safetensors", fmt.Sprintf("variant-%d.safetensors", variant)}, map[string]any{}},
	}}}
	body, err := json.Marshal(info)
	if err != nil {
		return nil // texts and numbers are always JSON
	}
	return body
}

// measureInfo has the gateway merge the object_info of many hosts, and then asks for it again and again.
func (b *gatewayBench) measureInfo(ctx context.Context) (*InfoResult, error) {
	var digests []string
	for i := range infoVariants {
		digest, err := b.q.StoreCatalogBlob(ctx, hostInfo(i))
		if err != nil {
			return nil, err
		}
		digests = append(digests, digest)
	}
	put := func(i int, digest string) error {
		return b.q.PutCatalog(ctx, fmt.Sprintf("info-%04d", i), queue.Catalog{
			Host: fmt.Sprintf("info-%04d", i), Blobs: map[string]string{"object_info": digest}, Time: b.q.Now(),
		})
	}
	for i := range b.cfg.Hosts {
		if err := put(i, digests[i%infoVariants]); err != nil {
			return nil, err
		}
		b.cfg.Progress(Progress{Stage: infoStage, Done: i, Total: b.cfg.Hosts})
	}
	digest, err := b.q.StoreCatalogBlob(ctx, hostInfo(infoVariants))
	if err == nil {
		err = put(b.cfg.Hosts-1, digest) // the last of all, so that the gateway has read the others when it offers this variant
	}
	if err != nil {
		return nil, err
	}
	result := &InfoResult{Hosts: b.cfg.Hosts, Variants: infoVariants + 1}
	return result, b.askInfo(ctx, result)
}

func (b *gatewayBench) askInfo(ctx context.Context, result *InfoResult) error {
	const path = "/object_info"
	last := []byte(fmt.Sprintf("variant-%d.safetensors", infoVariants))
	var tag string
	for {
		began := time.Now()
		a, err := b.client.request(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		if bytes.Contains(a.body, last) {
			result.Merge, result.Bytes, tag = milliseconds(time.Since(began)), len(a.body), a.header.Get("ETag")
			break
		}
	}
	zip, same := &samples{}, &samples{}
	for began := time.Now(); result.Requests < mostInfos && time.Since(began) < b.cfg.Time; result.Requests++ {
		at := time.Now()
		a, err := b.client.request(ctx, http.MethodGet, path, nil, "Accept-Encoding", "gzip")
		if err != nil {
			return err
		}
		zip.add(time.Since(at))
		result.Zipped = len(a.body)
		at = time.Now()
		if a, err = b.client.request(ctx, http.MethodGet, path, nil, "If-None-Match", tag); err != nil {
			return err
		}
		same.add(time.Since(at))
		if a.status != http.StatusNotModified {
			return fmt.Errorf("%s with its ETag: %d", path, a.status)
		}
	}
	result.Zip, result.Same = zip.spread(), same.spread()
	return nil
}
