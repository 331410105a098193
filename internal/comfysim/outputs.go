package comfysim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
)

// output runs an output node: it saves files and returns what executed and the history show.
func (x *execution) output(n *node) (*result, error) {
	var ui map[string]any
	var err error
	switch n.className() {
	case "SaveImage":
		ui, err = x.saveImages(n, "output", x.text(n, "filename_prefix"))
	case "PreviewImage":
		ui, err = x.saveImages(n, "temp", "ComfyUI_temp_"+letters(5))
	case "SaveAnimatedWEBP":
		ui, err = x.save("images", x.text(n, "filename_prefix"), "_.webp", encodeWEBP(x.picture(n, "images")))
		if err == nil {
			ui["animated"] = []bool{true}
		}
	case "VHS_VideoCombine":
		ui, err = x.saveGIF(n)
	case "SaveAudio":
		a, _ := x.input(n, "audio").(audio)
		ui, err = x.save("audio", x.text(n, "filename_prefix"), "_.flac", encodeFLAC(max(a.rate, 1), max(a.channels, 1)))
	case "SimMesh":
		ui, err = x.save("3d", x.text(n, "filename_prefix"), "_.glb", encodeGLB())
	case "SimPreview3D":
		ui, err = x.save3D(n)
	case "SaveImageWebsocket":
		return &result{}, x.sendImages(n)
	case "ETN_SaveImageCache":
		ui, err = x.saveCached(n)
	case "PreviewAny":
		ui = map[string]any{"text": []string{fmt.Sprint(x.input(n, "source"))}}
	case "SimUnserialisable":
		return &result{ui: map[string]any{}, broken: true}, nil
	default:
		ui, err = x.saveImages(n, "output", "ComfyUI")
	}
	if err != nil {
		return nil, err
	}
	if x.has(FaultNaN) {
		ui["score"] = []any{nan}
	}
	return &result{ui: ui, values: []any{x.picture(n, "images")}}, nil
}

// save3D saves a mesh and shows it as Preview3D does: by its path, the camera and the picture behind it.
func (x *execution) save3D(n *node) (map[string]any, error) {
	where, err := x.write("output", x.text(n, "filename_prefix"), "_.glb", encodeGLB())
	if err != nil {
		return nil, err
	}
	return map[string]any{"result": []any{path.Join(fmt.Sprint(where["subfolder"]), fmt.Sprint(where["filename"])), nil, nil}}, nil
}

// sendImages sends each picture whole, as a preview, and leaves nothing else.
func (x *execution) sendImages(n *node) error {
	p := x.picture(n, "images")
	data, err := x.p.srv.painter.png(p, nil)
	if err != nil {
		return newException("OSError", err.Error())
	}
	for i := range max(p.n, 1) {
		x.tick(n.id, i, max(p.n, 1), data, "PNG")
	}
	return nil
}

func letters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstupvxyz"[rand.IntN(26)]
	}
	return string(b)
}

func (x *execution) saveImages(n *node, kind, prefix string) (map[string]any, error) {
	p := x.picture(n, "images")
	data, err := x.p.srv.painter.png(p, x.pngTexts())
	if err != nil {
		return nil, newException("OSError", err.Error())
	}
	images := []any{}
	for range max(p.n, 1) {
		where, err := x.write(kind, prefix, "_.png", data)
		if err != nil {
			return nil, err
		}
		images = append(images, where)
	}
	return map[string]any{"images": images}, nil
}

// pngTexts are the chunks that ComfyUI embeds: the prompt, and every entry of extra_pnginfo.
func (x *execution) pngTexts() [][2]string {
	texts := [][2]string{{"prompt", string(x.g.raw)}}
	var extra struct {
		Info map[string]json.RawMessage `json:"extra_pnginfo"`
	}
	if json.Unmarshal(x.e.extra, &extra) != nil {
		return texts
	}
	for key, value := range extra.Info {
		texts = append(texts, [2]string{key, string(value)})
	}
	return texts
}

func (x *execution) saveGIF(n *node) (map[string]any, error) {
	rate := x.float(n, "frame_rate")
	data, err := encodeGIF(x.picture(n, "images"), rate)
	if err != nil {
		return nil, newException("OSError", err.Error())
	}
	kind := "output"
	if n.inputs["save_output"] == false {
		kind = "temp"
	}
	where, err := x.write(kind, x.text(n, "filename_prefix"), ".gif", data)
	if err != nil {
		return nil, err
	}
	where["format"], where["frame_rate"] = x.text(n, "format"), rate
	where["fullpath"] = path.Join("/srv/data", kind, fmt.Sprint(where["subfolder"]), fmt.Sprint(where["filename"]))
	return map[string]any{"gifs": []any{where}}, nil
}

// save writes one file to the output folder as the only entry of a media kind.
func (x *execution) save(media, prefix, ending string, data []byte) (map[string]any, error) {
	where, err := x.write("output", prefix, ending, data)
	if err != nil {
		return nil, err
	}
	return map[string]any{media: []any{where}}, nil
}

// write stores a file under a prefix and returns its reference. Prefixes that leave the folder raise as ComfyUI does.
func (x *execution) write(kind, prefix, ending string, data []byte) (map[string]any, error) {
	prefix = strings.ReplaceAll(prefix, `\`, "/")
	if clean := path.Clean(prefix); path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		folder := path.Dir(path.Join("/srv/data/output", prefix))
		if path.IsAbs(clean) {
			folder = path.Dir(clean)
		}
		return nil, &exception{kind: "Exception", message: "**** ERROR: Saving image outside the output folder is not allowed." +
			"\n full_output_folder: " + folder + "\n         output_dir: /srv/data/output\n"}
	}
	subfolder, name, ok := x.p.srv.store.save(kind, prefix, ending, data)
	if !ok {
		return nil, newException("ENOSPC", "")
	}
	if x.has(FaultMissingOutput) {
		x.p.srv.store.remove(kind, subfolder, name)
	}
	return map[string]any{"filename": name, "subfolder": subfolder, "type": kind}, nil
}
