package gateway

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Hosts give their files equal names, so a client sees each file in a folder that is named after its prompt: subfolder is the prompt's
// id, then the subfolder that the graph asked for. All clients send subfolder back to /view, which finds the job in it.

// shownFolder is the subfolder of an output as clients see it.
func shownFolder(id job.ID, subfolder string) string {
	folder := strings.Trim(strings.ReplaceAll(subfolder, `\`, "/"), "/")
	return path.Join(string(id), folder)
}

// hostFolder is the folder below which an agent has a host write the files of a prompt.
const hostFolder = "comfyherd/"

// showFiles replaces, in what a node left, the folders of the host by those that clients see: in every object with a filename, however
// deep. id is the job's; of the host's folder only what is below the prompt's own is kept.
func showFiles(id job.ID, output any) any {
	switch v := output.(type) {
	case []any:
		for i := range v {
			v[i] = showFiles(id, v[i])
		}
	case map[string]any:
		if _, isFile := v["filename"].(string); isFile {
			subfolder, _ := v["subfolder"].(string)
			v["subfolder"] = shownFolder(id, belowPrompt(subfolder))
			return v
		}
		for name := range v {
			v[name] = showFiles(id, v[name])
		}
	}
	return output
}

// belowPrompt takes comfyherd/<prompt id>/ off a subfolder of a host.
func belowPrompt(subfolder string) string {
	rest, own := strings.CutPrefix(strings.ReplaceAll(subfolder, `\`, "/"), hostFolder)
	if !own {
		return subfolder
	}
	_, below, _ := strings.Cut(rest, "/")
	return below
}

// outputsOf are the outputs of a completed job by node and media, as ComfyUI's history shows them, from what its event says. They
// stand in for a record that is missing.
func outputsOf(row *Row) map[string]map[string][]any {
	shown := map[string]map[string][]any{}
	if row.Last == nil {
		return shown
	}
	for i := range row.Last.Outputs {
		o := &row.Last.Outputs[i]
		if o.Type == "websocket" {
			continue
		}
		if shown[o.Node] == nil {
			shown[o.Node] = map[string][]any{}
		}
		if o.Type == workflow.CachedOutput {
			shown[o.Node][o.Media] = append(shown[o.Node][o.Media], map[string]any{
				"source": "http", "id": workflow.CachedName(o.Filename), "content-type": o.ContentType, "type": outputFolder,
			})
			continue
		}
		var entry any = map[string]any{"filename": o.Filename, "subfolder": shownFolder(row.Job, o.Subfolder), "type": o.Type}
		if o.Media == "text" {
			entry = o.Text
		}
		shown[o.Node][o.Media] = append(shown[o.Node][o.Media], entry)
	}
	return shown
}

// findOutput finds a file of a tenant's jobs by the folder, name and type with which clients saw it. For a client that leaves out
// the folder it is the newest file of this name.
func findOutput(rows *Rows, folder, file, kind string) (job.Output, bool) {
	if folder == "." {
		folder = ""
	}
	id, below, _ := strings.Cut(folder, "/")
	if id != "" {
		if row, found := rows.Row(job.ID(id)); found {
			return outputIn(&row, below, file, kind)
		}
	}
	ended := rows.Ended()
	for i := len(ended) - 1; i >= 0; i-- {
		if o, found := outputIn(&ended[i], folder, file, kind); found {
			return o, true
		}
	}
	return job.Output{}, false
}

// storedOutput is findOutput that also finds what was stored a moment ago, perhaps through another gateway.
func storedOutput(ctx context.Context, rows *Rows, folder, file, kind string) (out job.Output, found bool, err error) {
	if out, found = findOutput(rows, folder, file, kind); found {
		return out, true, nil
	}
	if err = rows.refresh(ctx); err != nil {
		return job.Output{}, false, err
	}
	out, found = findOutput(rows, folder, file, kind)
	return out, found, nil
}

func outputIn(row *Row, folder, file, kind string) (job.Output, bool) {
	if row.Last == nil {
		return job.Output{}, false
	}
	for _, o := range row.Last.Outputs {
		if o.Filename == file && o.Type == kind && strings.Trim(strings.ReplaceAll(o.Subfolder, `\`, "/"), "/") == folder {
			return o, true
		}
	}
	return job.Output{}, false
}

// shownOutput is what a node left, from a host, as clients see it.
func shownOutput(id job.ID, output json.RawMessage) json.RawMessage {
	var value any
	d := json.NewDecoder(strings.NewReader(string(plainJSON(output))))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return json.RawMessage("null")
	}
	return encode(showFiles(id, value))
}
