package workflow_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestATextThatNamesAFileOfAJobIsFound(t *testing.T) {
	t.Parallel()
	const id = "23c1b2d5-aa3c-8efb-9547-6f49092808b8"
	for text, want := range map[string]bool{
		"comfyherd/" + id + "/ComfyUI_00001_.png [output]": true,
		"comfyherd/" + id + "/0-cat.png":                   true,
		"./comfyherd/" + id + "/x.png":                     true,
		"././/comfyherd//" + id + "/x.png":                 true,
		`comfyherd\` + id + `\x.png`:                       true,
		`.\ComfyHerd\` + id:                                true,
		"/comfyherd/" + id:                                 true,
		"COMFYHERD./" + id + "/x.png":                      true,
		"comfyherd /" + id + "/x.png":                      true,
		"../comfyherd/" + id + "/x.png":                    true,
		"COMFYH~1/" + id + "/x.png":                        true,
		"co~1/" + id + "/x.png":                            true,
		"c~1/" + id + "/x.png":                             false,
		"comfyherd~1/" + id + "/x.png":                     false,
		"comfyherds~1/" + id + "/x.png":                    false,
		"coffee~1/" + id + "/x.png":                        false,
		"comfyherd::$INDEX_ALLOCATION/" + id:               true,
		"x/../comfyherd/" + id + "/x.png":                  true,
		"C:/ComfyUI/output/comfyherd/" + id + "/x.png":     true,
		"/opt/output/comfyherd/" + id:                      true,
		"comfyherd/anything":                               true,
		"./comfyherd/anything":                             true,
		"x/./comfyherd/anything":                           false,
		"x/comfyherd/anything":                             false,
		"comfyherd":                                        false,
		"comfyherds/" + id:                                 false,
		"a photo by comfyherd/" + id:                       false,
		"https://example.org/comfyherd/readme":             false,
		"sub/cat.png":                                      false,
		"":                                                 false,
		"/":                                                false,
	} {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for name, input := range map[string]string{
			"plain":   string(quoted),
			"nested":  fmt.Sprintf(`{"a":[1,{"b":%s}]}`, quoted),
			"escaped": `"\u0063` + string(quoted[2:]),
		} {
			if name == "escaped" && (len(text) == 0 || text[0] != 'c') {
				continue
			}
			g, err := workflow.Parse([]byte(`{"7":{"class_type":"LoadImage","inputs":{"size":1,"image":` + input + `}}}`))
			if err != nil {
				t.Fatal(err)
			}
			node, in, found := g.NamesJobFile("comfyherd", nil)
			if found != want || found && (node != "7" || in != "image") {
				t.Errorf("%s %s: found %t in %s of %s", name, quoted, found, in, node)
			}
			if _, _, found := g.NamesJobFile("comfyherd", func(node, input string) bool { return node == "7" && input == "image" }); found {
				t.Errorf("%s: an exception is none", quoted)
			}
			if _, _, found := g.NamesJobFile("comfyherd", func(_, input string) bool { return input == "size" }); found != want {
				t.Errorf("%s: found %t although another input is an exception", quoted, found)
			}
		}
	}
}

// A picture's metadata has the prefix that its own run got; it gets that of the new run before it.
func TestAPrefixThatIsPutBelowTheJobsOwnIsNoNameOfAnothers(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]bool{"comfyherd/x/y": false, "comfyherd/../comfyherd/x": true, "/comfyherd/x": true} {
		g, err := workflow.Parse([]byte(`{"7":{"class_type":"SaveImage","inputs":{"filename_prefix":"` + prefix + `"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, found := g.NamesJobFile("comfyherd", nil); found != want {
			t.Errorf("%s: found %t", prefix, found)
		}
	}
}
