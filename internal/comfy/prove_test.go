package comfy_test

import (
	"bytes"
	"image/color"
	"image/png"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const red, blue = 0xFF0000, 0x0000FF

// painted saves a picture of one colour outside of the prompt's own folder.
func painted(t *testing.T, rgb int) comfy.Prompt {
	t.Helper()
	return promptOf(t, map[string]any{"1": empty(rgb), "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": "art"})})
}

func colorOf(t *testing.T, h *comfy.Host, o comfy.Output) color.Color {
	t.Helper()
	content, _ := readAll(t, h, o)
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r, g, b, _ := picture.At(0, 0).RGBA()
	return color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}
}

func (r rig) outputOf(p comfy.Prompt) comfy.Output {
	r.t.Helper()
	result, err := r.run(p, comfy.Watch{})
	if err != nil || len(result.Outputs) != 1 {
		r.t.Fatalf("%+v, %v", result, err)
	}
	return result.Outputs[0]
}

func TestAFileThatAnotherPromptHasOverwrittenIsNeverDelivered(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{KeepCache: true})
	first := r.outputOf(painted(t, red))
	r.sim.RemoveFile("output", first.Filename)
	if second := r.outputOf(painted(t, blue)); second.Filename != first.Filename {
		t.Fatalf("the second is %+v, which shows nothing", second)
	}
	again := r.outputOf(painted(t, red))
	if got := colorOf(t, r.host, again); got != (color.RGBA{255, 0, 0, 255}) {
		t.Errorf("the red picture is %v", got)
	}
}

func TestACachedFileThatIsStillTheSameIsDelivered(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	r.outputOf(painted(t, red))
	o := r.outputOf(painted(t, red))
	if got := colorOf(t, r.host, o); got != (color.RGBA{255, 0, 0, 255}) || o.Version == "" {
		t.Errorf("%+v is %v", o, got)
	}
	if runs := r.sim.Runs(); len(runs) != 2 || len(runs[1].Nodes) != 0 {
		t.Errorf("%+v", runs)
	}
}

func TestACachedFileThatChangesBeforeItIsReadIsNotDelivered(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	r.outputOf(painted(t, red))
	o := r.outputOf(painted(t, red))
	r.sim.RemoveFile("output", o.Filename)
	r.outputOf(painted(t, blue))
	if _, _, _, err := r.host.Open(within(t), o); failure.KindOf(err) != failure.Lost {
		t.Errorf("%v", err)
	}
}

func TestACachedFileOfAnotherAgentsPromptIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{KeepCache: true})
	r.outputOf(painted(t, red))
	other := open(t, r.sim.URL())
	result, err := other.Run(within(t), painted(t, red), comfy.Watch{})
	if err != nil || result.OutputsReused || len(result.Outputs) != 1 || colorOf(t, other, result.Outputs[0]) != (color.RGBA{255, 0, 0, 255}) {
		t.Errorf("%+v, %v", result, err)
	}
	if runs := r.sim.Runs(); len(runs) != 3 { // the first agent's, the cached one, and that with nothing cached
		t.Errorf("%d runs", len(runs))
	}
}
