package comfysim

import (
	"fmt"
	"image/color"
	"path"
	"strconv"
	"strings"
	"time"
)

// latent stands for a LATENT: the size of the picture it will become, and its colour once it was sampled.
type latent struct {
	picture
	sampled bool
}

// audio stands for an AUDIO.
type audio struct{ rate, channels int }

// conditioning is the text it was encoded from.
type conditioning string

// model is a loaded model file, or a part of one.
type model string

var grey = color.RGBA{127, 127, 127, 255}

// perform runs one node for as long as it takes.
func (x *execution) perform(n *node) (*result, error) {
	c := x.class(n.id)
	if c.timed() && x.p.isPoisoned() {
		return nil, newException("cuda_device_assert", "")
	}
	switch n.className() {
	case "SimBlock":
		return one(blocker{x.text(n, "message"), false}), nil
	case "SimPrint":
		x.p.log(x.text(n, "text"), "\n") // as print does
		return one(x.picture(n, "image")), nil
	case "KSampler":
		return x.sample(n)
	case "SimSleep":
		return x.simSleep(n)
	case "SimRaise":
		return nil, newException(x.text(n, "kind"), x.text(n, "message"))
	}
	if d := x.duration(n, c.open); d > 0 {
		if err := x.p.sleep(d); err != nil {
			return nil, err
		}
	}
	if c.outputNode {
		return x.output(n)
	}
	if strings.HasSuffix(n.className(), "Loader") || n.className() == "CheckpointLoaderSimple" {
		return x.load(n, c)
	}
	return x.value(n, c)
}

// duration is how long a node takes: JobTimeFor's answer for any class, JobTime for timed ones only.
func (x *execution) duration(n *node, timed bool) time.Duration {
	if !timed && x.p.cfg.JobTimeFor == nil {
		return 0
	}
	return time.Duration(float64(x.p.cfg.nodeTime(n.className(), n.inputs)) * x.slow)
}

// value runs the nodes that only make a value of others.
func (x *execution) value(n *node, c *class) (*result, error) {
	switch n.className() {
	case "EmptyImage":
		return one(picture{x.int(n, "width"), x.int(n, "height"), x.int(n, "batch_size"), colorOf(uint32(x.int(n, "color")))}), nil
	case "EmptyLatentImage":
		return one(latent{picture: picture{x.int(n, "width"), x.int(n, "height"), x.int(n, "batch_size"), grey}}), nil
	case "EmptyAudio":
		return one(audio{x.int(n, "sample_rate"), x.int(n, "channels")}), nil
	case "ImageInvert":
		p := x.picture(n, "image")
		p.fill = invert(p.fill)
		return one(p), nil
	case "ImageScale":
		return one(x.picture(n, "image").scaled(x.int(n, "width"), x.int(n, "height"))), nil
	case "ImageUpscaleWithModel":
		p := x.picture(n, "image")
		return one(p.scaled(p.width*4, p.height*4)), nil
	case "LoadImage":
		return x.loadImage(n)
	case "ETN_LoadImageCache":
		return x.loadCached(n)
	case "CLIPTextEncode":
		return one(conditioning(x.text(n, "text"))), nil
	case "SimText":
		return one(x.text(n, "text")), nil
	case "VAEDecode":
		return one(x.picture(n, "samples")), nil
	case "VAEEncode":
		return one(latent{picture: x.picture(n, "pixels"), sampled: true}), nil
	}
	return x.passThrough(n, c), nil
}

func one(v any) *result { return &result{values: []any{v}} }

// passThrough hands the first linked picture, else the first linked value, to all outputs.
func (x *execution) passThrough(n *node, c *class) *result {
	var through any = picture{64, 64, 1, grey}
	found := false
	for _, name := range n.order {
		if _, _, linked := link(n.inputs[name]); !linked {
			continue
		}
		v := x.input(n, name)
		if _, isPicture := v.(picture); isPicture {
			through = v
			break
		}
		if !found {
			through, found = v, true
		}
	}
	r := &result{}
	for range c.outputs {
		r.values = append(r.values, through)
	}
	return r
}

// load reads a model file, which takes LoadTime unless it is the one used last. Loras and VAEs are small.
func (x *execution) load(n *node, c *class) (*result, error) {
	for _, name := range []string{"ckpt_name", "unet_name"} {
		file, ok := n.inputs[name].(string)
		if !ok || file == x.p.loaded {
			continue
		}
		if err := x.p.sleep(time.Duration(float64(x.p.cfg.LoadTime) * x.slow)); err != nil {
			return nil, err
		}
		x.p.loaded = file
	}
	r := &result{}
	for range c.outputs {
		r.values = append(r.values, model(n.className()))
	}
	return r, nil
}

// sample runs a KSampler: steps ticks, and a latent of the colour that Picture tells.
func (x *execution) sample(n *node) (*result, error) {
	out := latent{picture: x.picture(n, "latent_image"), sampled: true}
	seed, _ := strconv.ParseUint(integerText(n.inputs["seed"]), 10, 64)
	positive, _ := x.input(n, "positive").(conditioning)
	out.fill = Picture(seed, string(positive))
	format := "none"
	if x.p.cfg.Previews {
		format = "JPEG"
	}
	return one(out), x.ticks(n, x.duration(n, true), x.int(n, "steps"), out.picture, format)
}

// simSleep takes seconds; with steps 0 it sends no ticks and notices no interrupt.
func (x *execution) simSleep(n *node) (*result, error) {
	p := x.picture(n, "image")
	total := time.Duration(x.float(n, "seconds") * x.slow * float64(time.Second))
	steps := x.int(n, "steps")
	if steps == 0 {
		return one(p), x.p.sleep(total)
	}
	return one(p), x.ticks(n, total, steps, p, x.text(n, "preview"))
}

// ticks spreads a time over steps. An interrupt is noticed at the next tick.
func (x *execution) ticks(n *node, total time.Duration, steps int, p picture, format string) error {
	var image []byte
	if format == "JPEG" || format == "PNG" {
		var err error
		if image, err = x.p.srv.painter.preview(p, format); err != nil {
			return newException("OSError", err.Error())
		}
	}
	for i := range steps {
		if err := x.p.sleep(total / time.Duration(steps)); err != nil {
			return err
		}
		if err := x.checkpoint(); err != nil {
			return err
		}
		x.tick(n.id, i+1, steps, image, format)
	}
	return nil
}

func (x *execution) loadImage(n *node) (*result, error) {
	f, where := x.p.inputFile(n.inputs["image"])
	if f.data == nil && x.p.cfg.Lenient {
		return &result{values: []any{picture{64, 64, 1, grey}, picture{64, 64, 1, grey}}}, nil
	}
	if f.data == nil {
		return nil, &exception{kind: "av.error.FileNotFoundError", message: fmt.Sprintf("[Errno 2] No such file or directory: '/srv/data/%s'\n", where)}
	}
	p, err := decodePicture(f.data)
	if err != nil {
		return nil, &exception{kind: "PIL.UnidentifiedImageError", message: fmt.Sprintf("cannot identify image file '/srv/data/%s'\n", where)}
	}
	return &result{values: []any{p, p}}, nil
}

// inputFile finds the file of a LoadImage input: "sub/name", or "name [input|output|temp]".
func (p *process) inputFile(value any) (file, string) {
	name, _ := value.(string)
	kind := "input"
	for _, k := range []string{"input", "output", "temp"} {
		if bare, ok := strings.CutSuffix(name, " ["+k+"]"); ok {
			name, kind = bare, k
		}
	}
	f, ok := p.srv.store.get(kind, "", name)
	if ok && f.data == nil {
		f.data = []byte{}
	}
	return f, path.Join(kind, name)
}

// input is the value of an input: a widget's, or what a link delivers.
func (x *execution) input(n *node, name string) any {
	value := n.inputs[name]
	from, slot, linked := link(value)
	if !linked {
		return value
	}
	r := x.results[from]
	if r == nil || slot < 0 || slot >= len(r.values) {
		return nil
	}
	return r.values[slot]
}

// picture is an input as a picture; an input of another type counts as a small grey one.
func (x *execution) picture(n *node, name string) picture {
	switch v := x.input(n, name).(type) {
	case picture:
		return v
	case latent:
		return v.picture
	}
	return picture{64, 64, 1, grey}
}

func (x *execution) int(n *node, name string) int { return int(integer(x.input(n, name))) }

func (x *execution) float(n *node, name string) float64 {
	f, _ := strconv.ParseFloat(fmt.Sprint(x.input(n, name)), 64)
	return f
}

func (x *execution) text(n *node, name string) string {
	switch v := x.input(n, name).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}
