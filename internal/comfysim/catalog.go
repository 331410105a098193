package comfysim

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// classes.json holds the built-in node classes in the form of /object_info. A choice that begins with "$" stands for
// the files of that model folder, "$input" for the uploaded files, "$exceptions" for the kinds of SimRaise.
//
//go:embed classes.json
var builtinClasses []byte

// class is one node class as validation and execution see it.
type class struct {
	name       string
	open       bool // has any inputs (Config.Nodes)
	outputNode bool
	outputs    []string
	inputs     []inputSpec // required first, then optional, in declared order
	entry      map[string]json.RawMessage
}

// inputSpec is one declared input. choices is nil for inputs that are no list.
type inputSpec struct {
	name     string
	required bool
	kind     string // INT, FLOAT, STRING, BOOLEAN, COMBO or the type of a link
	choices  []string
	dynamic  bool // the choices are the uploaded files
	min, max json.Number
	config   json.RawMessage
}

// pair is the config as validation shows it: always with options.
func (s inputSpec) pair() json.RawMessage {
	var parts []json.RawMessage
	if json.Unmarshal(s.config, &parts) != nil || len(parts) != 1 {
		return s.config
	}
	return encode([]any{parts[0], struct{}{}})
}

// newCatalog builds the classes that a host of this configuration has.
func newCatalog(cfg Config) (map[string]*class, error) {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(builtinClasses, &entries); err != nil {
		return nil, fmt.Errorf("read built-in node classes: %w", err)
	}
	if cfg.Packs.Tooling {
		maps.Copy(entries, toolingClasses())
	}
	extra := maps.Clone(cfg.Classes)
	maps.Copy(entries, extra)
	catalog := make(map[string]*class, len(entries)+len(cfg.Nodes))
	for name, raw := range entries {
		c, err := parseClass(cfg, name, raw)
		if err != nil {
			return nil, fmt.Errorf("read node class %s: %w", name, err)
		}
		catalog[name] = c
	}
	for _, name := range cfg.Nodes {
		if _, known := catalog[name]; !known {
			catalog[name] = openClass(name)
		}
	}
	for _, name := range cfg.Missing {
		delete(catalog, name)
	}
	return catalog, nil
}

func parseClass(cfg Config, name string, raw json.RawMessage) (*class, error) {
	c := &class{name: name}
	if err := json.Unmarshal(raw, &c.entry); err != nil {
		return nil, err
	}
	var shape struct {
		Input      map[string]map[string]json.RawMessage `json:"input"`
		InputOrder map[string][]string                   `json:"input_order"`
		Output     []string                              `json:"output"`
		OutputNode bool                                  `json:"output_node"`
	}
	// hidden inputs are plain strings; they are declared, never given.
	if err := json.Unmarshal(raw, &shape); err != nil {
		return nil, err
	}
	c.outputs, c.outputNode = shape.Output, shape.OutputNode
	for _, group := range []string{"required", "optional"} {
		names := shape.InputOrder[group]
		if names == nil {
			names = slices.Sorted(maps.Keys(shape.Input[group]))
		}
		for _, input := range names {
			spec, err := parseInput(cfg, input, shape.Input[group][input])
			if err != nil {
				return nil, fmt.Errorf("input %s: %w", input, err)
			}
			spec.required = group == "required"
			shape.Input[group][input] = spec.config
			c.inputs = append(c.inputs, spec)
		}
	}
	inputs, err := json.Marshal(shape.Input)
	c.entry["input"] = inputs
	return c, err
}

// parseInput reads one input config, [type or choices, options?], and puts model files in the place of "$folder".
func parseInput(cfg Config, name string, raw json.RawMessage) (inputSpec, error) {
	spec := inputSpec{name: name, config: raw}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) == 0 {
		return spec, fmt.Errorf("want [type, options], got %s", raw)
	}
	options := map[string]json.RawMessage{}
	if len(parts) > 1 {
		if err := json.Unmarshal(parts[1], &options); err != nil {
			return spec, err
		}
		_ = json.Unmarshal(options["min"], &spec.min)
		_ = json.Unmarshal(options["max"], &spec.max)
	}
	list, inline := parts[0], true
	if json.Unmarshal(parts[0], &spec.kind) == nil {
		list, inline = options["options"], false
	}
	if spec.kind != "" && spec.kind != "COMBO" {
		return spec, nil
	}
	spec.kind, spec.choices = "COMBO", []string{}
	if err := json.Unmarshal(list, &spec.choices); err != nil {
		return spec, fmt.Errorf("choices: %w", err)
	}
	if len(spec.choices) != 1 || spec.choices[0] == "" || spec.choices[0][0] != '$' {
		return spec, nil
	}
	err := spec.fill(cfg, parts, options, inline) // before the return, which may copy spec first
	return spec, err
}

func (s *inputSpec) fill(cfg Config, parts []json.RawMessage, options map[string]json.RawMessage, inline bool) error {
	switch folder := s.choices[0][1:]; folder {
	case "input":
		s.dynamic, s.choices = true, []string{}
	case "exceptions":
		s.choices = exceptionKinds()
	case "vae":
		s.choices = append(cfg.models(folder), "pixel_space")
	default:
		s.choices = cfg.models(folder)
	}
	list, err := json.Marshal(s.choices)
	if err != nil {
		return err
	}
	if inline {
		parts[0] = list
	} else {
		options["options"] = list
		if parts[1], err = json.Marshal(options); err != nil {
			return err
		}
	}
	s.config, err = json.Marshal(parts)
	return err
}

// openClass is a class that is declared by its name only: eight outputs of any type, any input.
func openClass(name string) *class {
	entry := map[string]json.RawMessage{}
	quoted, _ := json.Marshal(name)
	for key, value := range map[string]string{
		"input": `{"required":{}}`, "input_order": `{"required":[]}`, "is_input_list": "false",
		"output":         `["*","*","*","*","*","*","*","*"]`,
		"output_is_list": `[false,false,false,false,false,false,false,false]`,
		"output_name":    `["*","*","*","*","*","*","*","*"]`,
		"name":           string(quoted), "display_name": string(quoted), "description": `""`,
		"python_module": `"custom_nodes.simulated"`, "category": `"simulated"`, "output_node": "false",
	} {
		entry[key] = json.RawMessage(value)
	}
	return &class{name: name, open: true, outputs: slices.Repeat([]string{"*"}, 8), entry: entry}
}

// info is the class's entry in /object_info, with the uploaded files where they are choices.
func (c *class) info(uploads func() []string) map[string]json.RawMessage {
	i := slices.IndexFunc(c.inputs, func(s inputSpec) bool { return s.dynamic })
	if i < 0 {
		return c.entry
	}
	entry := maps.Clone(c.entry)
	files, _ := json.Marshal(uploads())
	entry["input"] = json.RawMessage(fmt.Sprintf(`{"required":{%q:[%s,{"image_upload":true}]}}`, c.inputs[i].name, files))
	return entry
}
