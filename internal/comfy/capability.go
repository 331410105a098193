package comfy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// maxObjectInfo bounds /object_info: 746 kB for 642 classes, and a few MB on
// hosts with many packs and models.
const maxObjectInfo = 512 << 20

// Capability reads from GET /object_info, class by class, what the host can run and how it spells its choices. Only ctx
// bounds it: ComfyUI lists its model folders while it answers, which takes tens of seconds on large installations. It
// answers nothing else meanwhile, so that FreezeTimeout does not run. raw, unless it is nil, receives the answer as it came.
func (h *Host) Capability(ctx context.Context, raw io.Writer) (workflow.Capability, error) {
	h.reading.Add(1)
	defer func() { h.answered(); h.reading.Add(-1) }() // the requests that waited behind it are answered from now on
	request, err := h.request(ctx, http.MethodGet, "/object_info", nil, nil)
	if err != nil {
		return workflow.Capability{}, err
	}
	response, err := h.do(request)
	if err != nil {
		return workflow.Capability{}, fmt.Errorf("ask %s for /object_info: %w", h, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return workflow.Capability{}, fmt.Errorf("ask %s: %w", h, &statusError{"/object_info", response.StatusCode})
	}
	c := capabilityReader{spellings: map[string]string{}, classes: map[string]bool{}, limits: map[string]uint64{}}
	body := io.LimitReader(response.Body, maxObjectInfo)
	if raw != nil {
		body = io.TeeReader(body, raw)
	}
	err = c.read(body)
	if err == nil && raw != nil {
		_, err = io.Copy(io.Discard, body) // the decoder stops at the closing bracket
	}
	if err != nil {
		return workflow.Capability{}, fmt.Errorf("read /object_info of %s: %w", h, err)
	}
	h.spellings.Store(&c.spellings)
	h.seedLimits.Store(&c.limits)
	h.mu.Lock()
	h.classes = c.classes
	h.mu.Unlock()
	return workflow.NewCapability(&c.builder), nil
}

// Spelling is how the host itself spells a choice of an input: a Windows host
// lists sub\a.ckpt and refuses sub/a.ckpt. A choice that the host did not list at the last Capability is returned as it is.
func (h *Host) Spelling(class, input, file string) string {
	known := h.spellings.Load()
	if known == nil {
		return file
	}
	if own, listed := (*known)[spellingKey(class, input, file)]; listed {
		return own
	}
	return file
}

// SeedLimit is the largest value that an integer input takes, by the newest /object_info; known is false for inputs
// without a bound, and before the first Capability.
func (h *Host) SeedLimit(class, input string) (most uint64, known bool) {
	limits := h.seedLimits.Load()
	if limits == nil {
		return 0, false
	}
	most, known = (*limits)[class+"\x00"+input]
	return most, known
}

// Has says whether the host has a node class, by the newest /object_info.
func (h *Host) Has(class string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, has := h.classes[class]
	return has
}

// readMost reads the upper bound of ["INT", {"max": 2147483647}].
func readMost(config json.RawMessage) (most uint64, bounded bool) {
	var parts []json.RawMessage
	var kind string
	if decode(config, &parts) != nil || len(parts) < 2 || json.Unmarshal(parts[0], &kind) != nil || kind != "INT" {
		return 0, false
	}
	var options struct {
		Most *count `json:"max"`
	}
	if decode(parts[1], &options) != nil || options.Most == nil {
		return 0, false
	}
	return uint64(*options.Most), true
}

func spellingKey(class, input, file string) string {
	return class + "\x00" + input + "\x00" + strings.ReplaceAll(file, `\`, "/")
}

type capabilityReader struct {
	builder   workflow.CapabilityBuilder
	spellings map[string]string // only of choices with a backslash
	classes   map[string]bool   // whether each is an output node
	limits    map[string]uint64 // the largest value of each input that has one
}

// classInfo is one class of /object_info, as far as it is read.
type classInfo struct {
	Input struct {
		Required json.RawMessage `json:"required"`
		Optional json.RawMessage `json:"optional"`
	} `json:"input"`
	Output bool `json:"output_node"`
}

// read decodes {class: info, …} without ever holding more than one class.
func (c *capabilityReader) read(from io.Reader) error {
	decoder := json.NewDecoder(newLenientReader(from))
	open, err := decoder.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errForeignAnswer
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		class, _ := name.(string)
		var info classInfo
		_ = decode(raw, &info) // it is JSON, and a class of another form has no inputs
		c.builder.AddClass(class)
		c.classes[class] = info.Output
		c.inputs(class, info.Input.Required)
		c.inputs(class, info.Input.Optional)
	}
	_, err = decoder.Token()
	return err
}

func (c *capabilityReader) inputs(class string, raw json.RawMessage) {
	var inputs map[string]json.RawMessage
	if decode(raw, &inputs) != nil {
		return
	}
	for input, config := range inputs {
		l, enumerated := readList(config)
		switch {
		case !enumerated:
			if most, bounded := readMost(config); bounded {
				c.limits[class+"\x00"+input] = most
			}
			continue
		case l.open:
			c.builder.AddFiles(class, input, l.texts)
		default:
			c.builder.AddChoices(class, input, l.texts, l.numbers...)
		}
		c.spell(class, input, l.texts)
	}
}

// spell remembers the choices that are written with backslashes, unless the
// host lists the same with slashes too.
func (c *capabilityReader) spell(class, input string, choices []string) {
	var slashes map[string]bool
	for _, choice := range choices {
		if !strings.Contains(choice, `\`) {
			continue
		}
		if slashes == nil {
			slashes = map[string]bool{}
			for _, other := range choices {
				slashes[other] = strings.Contains(other, "/")
			}
		}
		if !slashes[strings.ReplaceAll(choice, `\`, "/")] {
			c.spellings[spellingKey(class, input, choice)] = choice
		}
	}
}
