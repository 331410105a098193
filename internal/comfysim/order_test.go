package comfysim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// recorded reads a sequence of message names as a real ComfyUI 0.33.0 sent them.
func recorded(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]string
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if all[name] == nil {
		t.Fatalf("no recorded order %q", name)
	}
	return all[name]
}

// sleepy is the graph of the recorded runs: picture, node with ticks, save.
func sleepy(color int, seconds float64, steps int, preview, prefix string) string {
	return fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},
		"2":{"class_type":"SimSleep","inputs":{"image":["1",0],"seconds":%g,"steps":%d,"preview":%q,"seed":1}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":%q}}}`, color, seconds, steps, preview, prefix)
}

func short(color int, prefix string) string {
	return fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},
		"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":%q}}}`, color, prefix)
}

func TestMessagesComeInTheRecordedOrder(t *testing.T) {
	t.Parallel()
	two := `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":3,"color":68590}},
		"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}},
		"3":{"class_type":"ImageScale","inputs":{"image":["1",0],"upscale_method":"nearest-exact","width":32,"height":32,"crop":"disabled"}},
		"4":{"class_type":"ImageInvert","inputs":{"image":["3",0]}},
		"5":{"class_type":"SaveImage","inputs":{"images":["4",0],"filename_prefix":"sub/dir/x"}}}`
	raise := `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":68628}},
		"2":{"class_type":"SimRaise","inputs":{"image":["1",0],"kind":"ValueError"}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"probe"}}}`
	for name, graph := range map[string]string{
		"normal": sleepy(68588, 0.02, 4, "none", "probe"), "two outputs": two, "error": raise,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, comfysim.Config{})
			l := h.listen("me")
			if first := l.must(); first.Type != "status" || first.Data["sid"] != "me" {
				t.Fatalf("first frame = %v, want status with sid", first)
			}
			h.submit(graph, "me")
			if diff := cmp.Diff(recorded(t, name), words(l.untilEnd())); diff != "" {
				t.Errorf("order differs from the recording (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCachedRunsRepeatTheirOldFiles(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	l := h.listen("me")
	l.must()
	first := h.submit(short(7, "probe"), "me")
	l.untilEnd()
	again := h.submit(short(7, "probe"), "me")
	if diff := cmp.Diff(recorded(t, "cached"), words(l.untilEnd())); diff != "" {
		t.Errorf("cached order differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(h.history(first).Outputs, h.history(again).Outputs); diff != "" {
		t.Errorf("cached outputs differ:\n%s", diff)
	}
	h.submit(short(7, "other"), "me")
	if diff := cmp.Diff(recorded(t, "other prefix"), words(l.untilEnd())); diff != "" {
		t.Errorf("order with another prefix differs (-want +got):\n%s", diff)
	}
	h.submit(`{"11":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":7}},
		"12":{"class_type":"SaveImage","inputs":{"images":["11",0],"filename_prefix":"other"}}}`, "me")
	if diff := cmp.Diff(recorded(t, "cached with other node ids"), words(l.untilEnd())); diff != "" {
		t.Errorf("order with other node ids differs (-want +got):\n%s", diff)
	}
}

func TestInterruptIsNoticedAtTheNextTick(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	l := h.listen("me")
	l.must()
	id := h.submit(sleepy(1, 30, 3000, "none", "x"), "me")
	var seen []event
	for ticks := 0; ticks < 3; {
		e := l.must()
		seen = append(seen, e)
		if e.Type == "progress" {
			ticks++
		}
	}
	h.do("POST", "/interrupt", fmt.Sprintf(`{"prompt_id":%q}`, id))
	rest := l.untilEnd()
	want := recorded(t, "interrupted")
	got := append(words(seen), words(rest[len(rest)-3:])...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order differs from the recording (-want +got):\n%s", diff)
	}
	entry := h.history(id)
	if entry.Status.Str != "error" || entry.Status.Completed {
		t.Errorf("status = %+v, want an incomplete error", entry.Status)
	}
}

func TestInterruptOfANodeWithoutTicksIsReportedAtTheNextNode(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	l := h.listen("me")
	l.must()
	h.submit(sleepy(1, 2, 0, "none", "x"), "me")
	var seen []event
	for len(seen) == 0 || seen[len(seen)-1].Type != "executing" || seen[len(seen)-1].Data["node"] != "2" {
		seen = append(seen, l.must())
	}
	h.do("POST", "/interrupt", "")
	if diff := cmp.Diff(recorded(t, "interrupted without ticks"), words(append(seen, l.untilEnd()...))); diff != "" {
		t.Errorf("order differs from the recording (-want +got):\n%s", diff)
	}
}
