package comfy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Open begins to read one output (GET /view). The caller closes body; size is
// -1 when the host does not tell. The error is a *failure.Failure unless ctx
// ended: Lost when the file is not there (deleted, or ComfyUI's cache named a
// file that is gone), HostLost when the host does not answer.
func (h *Host) Open(ctx context.Context, o Output) (body io.ReadCloser, contentType string, size int64, err error) {
	query := url.Values{"filename": {o.Filename}, "subfolder": {o.Subfolder}, "type": {o.Type}}
	request, err := h.request(ctx, http.MethodGet, "/view", query, nil)
	if err != nil {
		return nil, "", 0, failure.New(failure.Lost, "ask for an output: "+oneLine(err.Error()))
	}
	response, err := h.do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", 0, context.Cause(ctx)
		}
		return nil, "", 0, failure.New(failure.HostLost, "ComfyUI does not hand out the result: "+why(err))
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, response.Header.Get("Content-Type"), response.ContentLength, nil
	}
	response.Body.Close()
	name := oneLine(path.Join(o.Subfolder, o.Filename))
	switch {
	case response.StatusCode == http.StatusNotFound:
		err = &failure.Failure{Kind: failure.Lost, Node: o.Node, Exception: "result_missing",
			Message: fmt.Sprintf("the result %s of node %s is not on the host any more (deleted, or taken from ComfyUI's cache after it was)", name, o.Node)}
	case response.StatusCode > http.StatusInternalServerError:
		err = failure.New(failure.HostLost, fmt.Sprintf("ComfyUI does not hand out the result %s: HTTP %d", name, response.StatusCode))
	default:
		err = &failure.Failure{Kind: failure.ExecutionError, Node: o.Node, Exception: "result_unreadable",
			Message: fmt.Sprintf("ComfyUI refuses to hand out the result %s of node %s: HTTP %d", name, o.Node, response.StatusCode)}
	}
	return nil, "", 0, err
}

// Upload stores r as an input file and returns the name by which a workflow
// reads it ("sub/cat.png"). That is the host's choice: when name is taken by
// other content it is "cat (1).png", so a name should be unique to its job.
// r is streamed; the error is a *failure.Failure unless ctx ended.
func (h *Host) Upload(ctx context.Context, name, subfolder string, r io.Reader) (nameForWorkflow string, err error) {
	if name == "" || strings.ContainsAny(name, `/\`) {
		return "", failure.New(failure.InvalidWorkflow, fmt.Sprintf("the input file name %q is empty or has a path; name the file alone", clip(oneLine(name), 100)))
	}
	body, contentType, err := uploadBody(name, subfolder, r)
	if err != nil {
		return "", failure.New(failure.Lost, "write an upload: "+oneLine(err.Error()))
	}
	request, err := h.request(ctx, http.MethodPost, "/upload/image", nil, body)
	if err != nil {
		return "", failure.New(failure.Lost, "write an upload: "+oneLine(err.Error()))
	}
	request.Header.Set("Content-Type", contentType)
	response, err := h.do(request)
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", failure.New(failure.HostLost, "ComfyUI does not take the input file: "+why(err))
	}
	defer response.Body.Close()
	got, err := io.ReadAll(io.LimitReader(response.Body, smallAnswer))
	if err != nil {
		return "", failure.New(failure.HostLost, "ComfyUI does not confirm the input file: "+why(err))
	}
	return uploadedName(response.StatusCode, got, name)
}

// uploadBody is the multipart form around r, without holding r in memory.
func uploadBody(name, subfolder string, r io.Reader) (body io.Reader, contentType string, err error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range [...][2]string{{"type", "input"}, {"subfolder", subfolder}} {
		if err := w.WriteField(field[0], field[1]); err != nil {
			return nil, "", err
		}
	}
	if _, err := w.CreateFormFile("image", name); err != nil {
		return nil, "", err
	}
	head := bytes.Clone(form.Bytes())
	form.Reset()
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return io.MultiReader(bytes.NewReader(head), r, &form), w.FormDataContentType(), nil
}

func uploadedName(status int, body []byte, name string) (string, error) {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return "", failure.New(failure.InvalidWorkflow, fmt.Sprintf("the input file %s is too large for the host: %s; start ComfyUI with a larger --max-upload-size", oneLine(name), oneLine(string(body))))
	case status == http.StatusBadRequest:
		return "", failure.New(failure.InvalidWorkflow, fmt.Sprintf("ComfyUI refuses the input file %s (HTTP 400); its name or folder is not allowed", oneLine(name)))
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return "", failure.New(failure.RejectedBusy, fmt.Sprintf("the host takes no input file now: HTTP %d", status))
	case status != http.StatusOK:
		return "", failure.New(failure.HostSick, fmt.Sprintf("the host cannot store the input file %s: HTTP %d", oneLine(name), status))
	}
	var d struct {
		Name      text `json:"name"`
		Subfolder text `json:"subfolder"`
	}
	if decode(body, &d) != nil || d.Name == "" {
		return "", failure.New(failure.HostSick, "the host answers an upload with something that is not ComfyUI's")
	}
	if d.Subfolder == "" {
		return string(d.Name), nil
	}
	return strings.ReplaceAll(string(d.Subfolder), `\`, "/") + "/" + string(d.Name), nil
}
