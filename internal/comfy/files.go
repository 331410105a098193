package comfy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Open begins to read one output (GET /view). The caller closes body; size is
// -1 when the host does not tell. The error is a *failure.Failure unless ctx
// ended: Lost when the file is not there (deleted, or ComfyUI's cache named a
// file that is gone), HostLost when the host does not answer.
func (h *Host) Open(ctx context.Context, o Output) (body io.ReadCloser, contentType string, size int64, err error) {
	if o.Type == Websocket {
		return h.openPicture(ctx, o)
	}
	route, query := "/view", fileRef{o.Type, o.Subfolder, o.Filename}.query()
	if o.Type == workflow.CachedOutput {
		route, query = cacheRoute+workflow.CachedName(o.Filename), nil
	}
	request, err := h.request(ctx, http.MethodGet, route, query, nil)
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
	if response.StatusCode == http.StatusOK && o.Version != "" && version(response.Header) != o.Version {
		response.Body.Close()
		return nil, "", 0, overwritten(o)
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
	s := fileRef{"input", subfolder, name}
	status, header, got, err := h.send(ctx, s, r, false)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case refused(err):
		return "", failure.New(failure.HostLost, "ComfyUI does not take the input file: "+why(err))
	case err != nil:
		return "", failure.New(failure.HostLost, "ComfyUI does not confirm the input file: "+why(err))
	case status == http.StatusInternalServerError && raisedInComfyUI(got):
		return "", h.unwritable(ctx, name)
	}
	nameForWorkflow, err = uploadedName(answer{status, header, got}, name)
	if err == nil {
		h.remember(fileRef{"input", subfolder, path.Base(nameForWorkflow)})
	}
	return nameForWorkflow, err
}

// unwritable finds out whether the host can write no file at all, or its file system does not take this name.
func (h *Host) unwritable(ctx context.Context, name string) error {
	err := h.put(ctx, fileRef{"input", ownFolder, "room.bin"}, []byte("a file that was written to see whether there is room"), true)
	if errors.Is(err, ErrNoRoom) {
		return &failure.Failure{Kind: failure.HostSick, Cause: failure.DiskFull,
			Message: "the host cannot store input files: its disk or quota is full, or its input folder is read-only"}
	}
	if err != nil {
		return failure.New(failure.HostLost, "the host did not store the input file "+oneLine(name)+" and does not say whether it can store any: "+why(err))
	}
	return failure.New(failure.Refused, "ComfyUI cannot store an input file under the name "+clip(oneLine(name), 100)+" (HTTP 500), and others it can; choose a plain name")
}

// uploadBody is the multipart form around r, without holding r in memory.
func uploadBody(s fileRef, r io.Reader, overwrite bool) (body io.Reader, contentType string, err error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range [...][2]string{{"type", s.kind}, {"subfolder", s.subfolder}, {"overwrite", strconv.FormatBool(overwrite)}} {
		if err := w.WriteField(field[0], field[1]); err != nil {
			return nil, "", err
		}
	}
	if _, err := w.CreateFormFile("image", s.name); err != nil {
		return nil, "", err
	}
	head := bytes.Clone(form.Bytes())
	form.Reset()
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return io.MultiReader(bytes.NewReader(head), r, &form), w.FormDataContentType(), nil
}

func uploadedName(got answer, name string) (string, error) {
	name = clip(oneLine(name), 100)
	switch {
	case got.status == http.StatusRequestEntityTooLarge:
		return "", &failure.Failure{Kind: failure.Refused, Exception: tooLarge, Message: fmt.Sprintf(
			"the input file %s is too large for the host: %s; start ComfyUI with a larger --max-upload-size, and let the proxy before it pass as much", name, clip(oneLine(string(got.body)), 200))}
	case got.status == http.StatusTooManyRequests || got.status == http.StatusServiceUnavailable:
		return "", failure.New(failure.RejectedBusy, fmt.Sprintf("the host takes no input file now: HTTP %d", got.status))
	case got.status == http.StatusBadRequest && len(got.body) == 0:
		return "", failure.New(failure.Refused, fmt.Sprintf("ComfyUI refuses the input file %s (HTTP 400); its name or folder is not allowed", name))
	case got.status >= 500:
		return "", failure.New(failure.HostLost, fmt.Sprintf("ComfyUI does not take the input file %s: HTTP %d", name, got.status))
	case got.status != http.StatusOK:
		return "", foreignFailure("the input file "+name, got)
	}
	var d struct {
		Name      text `json:"name"`
		Subfolder text `json:"subfolder"`
	}
	if decode(got.body, &d) != nil || d.Name == "" {
		return "", foreignFailure("the input file "+name, got)
	}
	if d.Subfolder == "" {
		return string(d.Name), nil
	}
	return strings.ReplaceAll(string(d.Subfolder), `\`, "/") + "/" + string(d.Name), nil
}
