package main

import (
	"encoding/json"
	"fmt"
)

// sample is text to image with one of three models. On real hosts it is one of three workflows that need no model.
func (p *play) sample(model, n int) json.RawMessage {
	if len(p.fleet.sims) == 0 {
		return plain(model, n)
	}
	return textToImage(checkpoints[model], n, 512, false)
}

// big is a workflow of its own that needs much memory.
func (p *play) big(n int) json.RawMessage { return textToImage(checkpoints[0], 1000+n, 2048, true) }

func textToImage(checkpoint string, n, side int, inverted bool) json.RawMessage {
	nodes := map[string]any{
		"4": node("CheckpointLoaderSimple", "ckpt_name", checkpoint),
		"5": node("EmptyLatentImage", "width", side, "height", side, "batch_size", 1),
		"6": node("CLIPTextEncode", "clip", link("4", 1), "text", fmt.Sprintf("a flock of %d sheep", n)),
		"7": node("CLIPTextEncode", "clip", link("4", 1), "text", "blurry"),
		"3": node("KSampler", "model", link("4", 0), "positive", link("6", 0), "negative", link("7", 0), "latent_image", link("5", 0),
			"seed", n, "steps", 4, "cfg", 7, "sampler_name", "euler", "scheduler", "normal", "denoise", 1),
		"8": node("VAEDecode", "samples", link("3", 0), "vae", link("4", 2)),
		"9": node("PreviewImage", "images", link("8", 0)),
	}
	if inverted {
		nodes["10"] = node("ImageInvert", "image", link("8", 0))
		nodes["9"] = node("PreviewImage", "images", link("10", 0))
	}
	return graph(nodes)
}

// plain draws one colour, inverted as often as variant says, so that each variant is a workflow of its own.
func plain(variant, n int) json.RawMessage {
	nodes := map[string]any{"1": node("EmptyImage", "width", 1024, "height", 1024, "batch_size", 1, "color", n)}
	return graph(finish(nodes, "1", variant))
}

// loading loads a picture, inverted as often as variant says.
func loading(picture string, variant int) json.RawMessage {
	return graph(finish(map[string]any{"1": node("LoadImage", "image", inputFolder+"/"+picture)}, "1", variant))
}

func finish(nodes map[string]any, last string, inversions int) map[string]any {
	for i := range inversions {
		id := fmt.Sprint(10 + i)
		nodes[id] = node("ImageInvert", "image", link(last, 0))
		last = id
	}
	nodes["9"] = node("PreviewImage", "images", link(last, 0))
	return nodes
}

func link(node string, output int) []any { return []any{node, output} }

func node(class string, inputs ...any) map[string]any {
	in := map[string]any{}
	for i := 0; i+1 < len(inputs); i += 2 {
		in[fmt.Sprint(inputs[i])] = inputs[i+1]
	}
	return map[string]any{"class_type": class, "inputs": in}
}

func graph(nodes map[string]any) json.RawMessage {
	body, err := json.Marshal(nodes)
	if err != nil {
		return nil // cannot be: strings, numbers and lists only
	}
	return body
}
