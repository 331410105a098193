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

// Capability reads what the host can run from GET /object_info, class by
// class, and remembers how the host spells its choices. Only ctx bounds it:
// ComfyUI lists its model folders while it answers.
func (h *Host) Capability(ctx context.Context) (workflow.Capability, error) {
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
	var c capabilityReader
	c.spellings = map[string]string{}
	if err := c.read(io.LimitReader(response.Body, maxObjectInfo)); err != nil {
		return workflow.Capability{}, fmt.Errorf("read /object_info of %s: %w", h, err)
	}
	h.spellings.Store(&c.spellings)
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

func spellingKey(class, input, file string) string {
	return class + "\x00" + input + "\x00" + strings.ReplaceAll(file, `\`, "/")
}

type capabilityReader struct {
	builder   workflow.CapabilityBuilder
	spellings map[string]string // only of choices with a backslash
}

// classInfo is one class of /object_info, as far as it is read.
type classInfo struct {
	Input struct {
		Required json.RawMessage `json:"required"`
		Optional json.RawMessage `json:"optional"`
	} `json:"input"`
}

// read decodes {class: info, …} without ever holding more than one class.
func (c *capabilityReader) read(from io.Reader) error {
	decoder := json.NewDecoder(newLenientReader(from))
	open, err := decoder.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errGarbled
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
		if err := decode(raw, &info); err != nil {
			return err
		}
		c.builder.AddClass(class)
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
