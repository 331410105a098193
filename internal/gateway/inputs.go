package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// folders are ComfyUI's folders of files; uploads to them are stored under <tenant>/<folder>/<subfolder>/<file>.
const (
	inputFolder  = "input"
	outputFolder = "output"
	tempFolder   = "temp"
)

// mostInputs bounds how many texts of a prompt are looked up among the tenant's files.
const mostInputs = 200

// inputsOf finds the texts of a graph that name a file that the tenant has uploaded. Each becomes an input of the job, which whichever
// host runs it receives before each attempt. A text that names none is left to the host.
func (g *Gateway) inputsOf(ctx context.Context, name job.Tenant, graph []byte) ([]job.Input, error) {
	var inputs []job.Input
	stored := map[string]string{} // text: the object that it names; empty: none
	err := eachText(graph, func(node, input, text string, cached bool) error {
		key := text
		if cached {
			key = "\x00" + text // no file has such a name
		}
		object, known := stored[key]
		if !known && len(stored) < mostInputs {
			var err error
			if cached {
				object, err = g.cachedInput(ctx, name, text)
			} else {
				object, err = g.objectOf(ctx, name, text)
			}
			if err != nil {
				return err
			}
			stored[key] = object
		}
		if object != "" {
			inputs = append(inputs, job.Input{Node: node, Input: input, Object: object, Filename: path.Base(object)})
		}
		return nil
	})
	return inputs, err
}

// eachText tells of the texts of a graph that could be names of files, or (cached) ids of Krita's pictures.
func eachText(graph []byte, tell func(node, input, text string, cached bool) error) error {
	return members(plainJSON(graph), func(node string, raw json.RawMessage) error {
		var n struct {
			Class  string                     `json:"class_type"`
			Inputs map[string]json.RawMessage `json:"inputs"`
		}
		_ = json.Unmarshal(raw, &n) // workflow.Adopt has read the graph before
		for input, value := range n.Inputs {
			var text string
			if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
				continue
			}
			cached := n.Class == workflow.CacheClass && input == workflow.CacheInput && workflow.CachedID(text)
			if !cached && (input == "filename_prefix" || !namesFile(text)) {
				continue
			}
			if err := tell(node, input, text, cached); err != nil {
				return err
			}
		}
		return nil
	})
}

// namesFile reports whether a text could name a file that a client has uploaded. Models are never uploaded.
func namesFile(text string) bool {
	file, _ := splitFolder(text)
	return len(file) > 0 && len(file) <= 512 && !strings.ContainsAny(file, "\n\r\x00") && path.Ext(file) != "" &&
		!strings.ContainsAny(path.Ext(file), " ") && !workflow.NamesModel(file)
}

// splitFolder splits "a/b.png [output]" into the path and the folder that it is in.
func splitFolder(text string) (file, folder string) {
	for _, folder := range []string{inputFolder, outputFolder, tempFolder} {
		if file, found := strings.CutSuffix(text, " ["+folder+"]"); found {
			return file, folder
		}
	}
	return text, inputFolder
}

// objectOf finds the file that a text names: an upload of the tenant, or a file that an earlier job of the tenant made, which is copied
// to the inputs. Empty when there is none.
func (g *Gateway) objectOf(ctx context.Context, name job.Tenant, text string) (string, error) {
	file, folder := splitFolder(text)
	clean, ok := cleanPath(file)
	if !ok {
		return "", nil
	}
	object := uploadName(name, folder, clean)
	_, err := g.q.StatFile(ctx, names.InputsStore, object)
	if err == nil {
		return object, nil
	}
	if !errors.Is(err, queue.ErrNoFile) {
		return "", err
	}
	if folder == inputFolder {
		return g.uploadedAsset(ctx, name, clean)
	}
	return g.copyOutput(ctx, name, clean, folder, object)
}

// uploadName is the name in COMFY_INPUTS of a file that a client has uploaded.
func uploadName(name job.Tenant, folder, clean string) string {
	return string(name) + "/" + folder + "/" + clean
}

// copyOutput copies a file that an earlier job made to the inputs, where a job can name it; empty when there is no such file.
func (g *Gateway) copyOutput(ctx context.Context, name job.Tenant, clean, folder, object string) (string, error) {
	t, err := g.tenant(ctx, name)
	if err != nil {
		return "", err
	}
	out, found, err := storedOutput(ctx, t.rows, path.Dir(clean), path.Base(clean), folder)
	if err != nil || !found || out.Object == "" {
		return "", err
	}
	body, stored, err := g.q.OpenOutput(ctx, out.Object)
	if errors.Is(err, queue.ErrNoFile) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer body.Close()
	if _, err := g.q.Client(name).PutFile(ctx, object, stored.ContentType, body); err != nil {
		return "", err
	}
	return object, nil
}

// cleanPath is a path of a client with slashes, without empty parts; false when it leaves its folder or is no path.
func cleanPath(text string) (string, bool) {
	text = strings.ReplaceAll(text, `\`, "/")
	if text == "" || strings.HasPrefix(text, "/") || strings.ContainsAny(text, "\x00\n\r") || len(text) > 1000 || !printable(text) {
		return "", false
	}
	var parts []string
	for part := range strings.SplitSeq(text, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." || strings.TrimSpace(part) == "" || strings.HasSuffix(part, ":"):
			return "", false
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), len(parts) > 0
}

// printable reports whether a name has no control or invisible characters, which no stored file may have.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) })
}
