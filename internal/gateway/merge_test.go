package gateway_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

const (
	loaderOfMany = `{"Loader": {"input": {"required": {"b": [["x.safetensors", "sub\\y.safetensors"], {"tooltip": "t"}], "a": ["INT", {"max": 18446744073709551615}]},` +
		` "optional": {"s": ["COMBO", {"options": ["fast"], "default": "fast"}]}}, "input_order": {"required": ["b", "a"]}, "name": "Loader"}}`
	loaderOfOne = `{"Loader": {"input": {"required": {"b": [["z.safetensors", "sub/y.safetensors", "a.safetensors"]], "a": ["INT", {"max": 5}]},` +
		` "optional": {"s": ["COMBO", {"options": ["slow", "fast"]}], "n": [["only here"]]}}, "name": "Loader"}, "Rare": {"input": {"required": {}}, "name": "Rare"}}`
)

func TestTheDefinitionOfMostHostsGetsTheChoicesOfAll(t *testing.T) {
	t.Parallel()
	got := gateway.MergeClasses(map[string]int{loaderOfMany: 3, loaderOfOne: 1})
	want := map[string]string{
		"Loader": `{"input": {"required": {"b": [["x.safetensors","sub/y.safetensors","a.safetensors","z.safetensors"],{"tooltip":"t"}], "a": ["INT", {"max": 18446744073709551615}]},` +
			` "optional": {"s": ["COMBO",{"options":["fast","slow"],"default":"fast"}]}}, "input_order": {"required": ["b", "a"]}, "name": "Loader"}`,
		"Rare": `{"input": {"required": {}}, "name": "Rare"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzMergedClassesAreJSON(f *testing.F) {
	f.Add(loaderOfMany, loaderOfOne)
	f.Add(`{"A": {"input": null}}`, `{"A": {"input": {"required": [1], "optional": {"x": [[], 1, 2], "y": ["COMBO"], "z": ["COMBO", {"options": null}]}}}}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		for class, def := range gateway.MergeClasses(map[string]int{a: 1, b: 2}) {
			if !json.Valid([]byte(def)) {
				t.Errorf("%q: %q", class, def)
			}
		}
	})
}
