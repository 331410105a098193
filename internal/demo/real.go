package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// realStage has the hosts of COMFY_HOSTS, which cannot be made to fail by a script. Its portraits load a picture, and the copy of
// one such picture is damaged on one host: that host's LoadImage raises, as it would for a broken download, and the
// others draw it. No weights and no custom nodes are needed.
type realStage struct {
	all     []agent.HostConfig
	intact  bool
	whole   string // the name of the picture that is whole everywhere, as LoadImage knows it
	damaged string
}

// inputFolder is where the two pictures lie below ComfyUI's input folder.
const inputFolder = "comfyherd-demo"

func newRealStage(o *Options) (*realStage, error) {
	names := map[string]bool{}
	for _, h := range o.Hosts {
		if names[h.Name] {
			return nil, fmt.Errorf("two hosts are named %s; give each a name of its own, as in gpu-1=%s", h.Name, h.URL)
		}
		names[h.Name] = true
	}
	run := uuid.NewString()[:8] // ComfyUI would rename a file whose name is taken by other content
	return &realStage{all: o.Hosts, intact: o.intact, whole: run + "-whole.png", damaged: run + "-damaged.png"}, nil
}

func (s *realStage) hosts() []agent.HostConfig { return s.all }

func (s *realStage) about() string {
	return fmt.Sprintf("%s of COMFY_HOSTS", daemon.Plural(len(s.all), "ComfyUI host"))
}

// failingHost is the second host, so that one of three comes before it and one after it.
func (s *realStage) failingHost() string { return s.all[min(1, len(s.all)-1)].Name }

var paper = color.RGBA{R: 0xd9, G: 0x7b, B: 0x29, A: 0xff}

// prepare uploads the pictures.
func (s *realStage) prepare(ctx context.Context) error {
	whole, err := sheet()
	if err != nil {
		return err
	}
	for _, host := range s.all {
		second := whole
		if host.Name == s.failingHost() && !s.intact {
			second = []byte(damagedPicture)
		}
		for name, body := range map[string][]byte{s.whole: whole, s.damaged: second} {
			if err := upload(ctx, host, name, body); err != nil {
				return fmt.Errorf("host %s: %w", host.Name, err)
			}
		}
	}
	return nil
}

const damagedPicture = "This was a picture before it was damaged; see comfyherd's `dispatcher demo`.\n"

// sheet is a picture in the colour of paper all over.
func sheet() ([]byte, error) {
	var whole bytes.Buffer
	if err := png.Encode(&whole, image.NewPaletted(image.Rect(0, 0, 64, 64), color.Palette{paper})); err != nil {
		return nil, fmt.Errorf("draw the demo's picture: %w", err)
	}
	return whole.Bytes(), nil
}

func upload(ctx context.Context, host agent.HostConfig, name string, body []byte) error {
	h, err := comfy.New(host.URL, comfy.Options{})
	if err != nil {
		return err
	}
	defer h.Close()
	got, err := h.Upload(ctx, name, inputFolder, bytes.NewReader(body))
	if err == nil && got != inputFolder+"/"+name {
		err = fmt.Errorf("the picture %s was stored as %s", name, got)
	}
	return err
}

func (s *realStage) damage() string {
	return fmt.Sprintf("The picture that the next portrait loads is damaged on %s; the other hosts have a good copy.", s.failingHost())
}

func (s *realStage) repair() string {
	return fmt.Sprintf("Portraits now load a picture that is whole on %s, too. Nobody tells comfyherd.", s.failingHost())
}

func (*realStage) close() {}

// workflow needs no weights. A portrait has a size of its own, a poster a colour of its own; neither is in the hash.
func (s *realStage) workflow(name string, n int, damaged bool) (json.RawMessage, color.RGBA) {
	if name == poster {
		c := color.RGBA{R: uint8(20 * n), G: 0x33, B: uint8(255 - 20*n), A: 0xff}
		return graphOf(map[string]any{
			"1": graphNode("EmptyImage", "width", 256, "height", 256, "batch_size", 1, "color", int(c.R)<<16|int(c.G)<<8|int(c.B)),
			"2": graphNode("ImageInvert", "image", []any{"1", 0}),
			"3": graphNode("SaveImage", "images", []any{"2", 0}, "filename_prefix", name),
		}), color.RGBA{R: 255 - c.R, G: 255 - c.G, B: 255 - c.B, A: 0xff}
	}
	file := s.whole
	if damaged {
		file = s.damaged
	}
	return graphOf(map[string]any{
		"1": graphNode("LoadImage", "image", strings.Join([]string{inputFolder, file}, "/")),
		"2": graphNode("ImageScale", "image", []any{"1", 0}, "upscale_method", "nearest-exact",
			"width", 192+8*n, "height", 256, "crop", "disabled"),
		"3": graphNode("SaveImage", "images", []any{"2", 0}, "filename_prefix", name),
	}), paper
}
