package comfy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Probe is a host's health and load.
type Probe struct {
	QueueRemaining int // pending and running prompts of everybody
	Foreign        int // those of them that are not ours; an estimate while prompts come and go

	// Only from Survey; bytes, of the card that ComfyUI uses.
	Version             string
	Device              string
	RAMTotal, RAMFree   uint64
	VRAMTotal, VRAMFree uint64
}

// Probe asks GET /prompt, the cheapest question there is (1.5 ms).
func (h *Host) Probe(ctx context.Context) (Probe, error) {
	var d struct {
		Info *struct {
			Remaining number `json:"queue_remaining"`
		} `json:"exec_info"`
		Gateway bool `json:"comfyherd_gateway"`
	}
	if err := h.ask(ctx, "/prompt", &d); err != nil {
		return Probe{}, err
	}
	if d.Gateway { // its jobs would come back to it
		return Probe{}, fmt.Errorf("probe %s: this is the gateway of a fleet and no ComfyUI; "+
			"start ComfyUI on another port and give its address, or move the gateway with dispatcher run --gateway", h)
	}
	if d.Info == nil {
		return Probe{}, fmt.Errorf("probe %s: /prompt answers without exec_info; is this a ComfyUI?", h)
	}
	p := Probe{QueueRemaining: d.Info.Remaining.int()}
	p.Foreign = max(0, p.QueueRemaining-h.outstanding())
	return p, nil
}

// Survey is Probe and what GET /system_stats tells.
func (h *Host) Survey(ctx context.Context) (Probe, error) {
	p, err := h.Probe(ctx)
	if err != nil {
		return Probe{}, err
	}
	var d struct {
		System struct {
			Version  text  `json:"comfyui_version"`
			RAMTotal count `json:"ram_total"`
			RAMFree  count `json:"ram_free"`
		} `json:"system"`
		Devices []struct {
			Name      text  `json:"name"`
			VRAMTotal count `json:"vram_total"`
			VRAMFree  count `json:"vram_free"`
		} `json:"devices"`
	}
	if err := h.ask(ctx, "/system_stats", &d); err != nil {
		return Probe{}, err
	}
	p.Version, p.RAMTotal, p.RAMFree = string(d.System.Version), uint64(d.System.RAMTotal), uint64(d.System.RAMFree)
	if len(d.Devices) > 0 {
		first := d.Devices[0]
		p.Device, p.VRAMTotal, p.VRAMFree = string(first.Name), uint64(first.VRAMTotal), uint64(first.VRAMFree)
	}
	return p, nil
}

// ask decodes the answer to a small GET.
func (h *Host) ask(ctx context.Context, path string, into any) error {
	got, err := h.get(ctx, path, nil, smallAnswer)
	if err != nil {
		return fmt.Errorf("ask %s for %s: %w", h, path, err)
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("ask %s: %w", h, &statusError{path, got.status})
	}
	if err := decode(got.body, into); err != nil {
		return fmt.Errorf("ask %s for %s: the answer is no JSON: %w", h, path, err)
	}
	return nil
}

// count is a non-negative integer up to 2^64-1; everything else is zero.
type count uint64

func (c *count) UnmarshalJSON(data []byte) error {
	var n uint64
	var f float64
	if json.Unmarshal(data, &n) == nil {
		*c = count(n)
	} else if json.Unmarshal(data, &f) == nil && f > 0 && f < 1<<63 {
		*c = count(f)
	}
	return nil
}
