package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	maxInput     = 4 << 30 // bytes of one fetched file, unless the configuration says less
	inputTimeout = 10 * time.Minute
)

// refuseJobFiles refuses a workflow that names a file below outputFolder. Those files belong to single jobs, and a workflow cannot
// name its own there, since the id is made when it runs. Inputs for which the job brings files are left out.
func refuseJobFiles(j *job.Job) error {
	node, input, found := j.Graph.NamesJobFile(outputFolder, func(node, input string) bool {
		return slices.ContainsFunc(j.Inputs, func(in job.Input) bool { return in.Node == node && in.Input == input })
	})
	if !found {
		return nil
	}
	return failure.New(failure.InvalidWorkflow, fmt.Sprintf(
		"input %s of node %s names a file below %s/, where each job has its own files only; to use a file, give it in \"inputs\"", input, node, outputFolder))
}

// uploadInputs uploads the job's inputs into the prompt's own folder, and returns what to write into the workflow: node →
// input → name. A file that does not exist ends the job, since only its publisher can put it there; one that cannot be
// fetched now is tried again later. Neither counts against the host.
func (h *host) uploadInputs(ctx context.Context, a *attempt) (map[string]map[string]string, error) {
	if len(a.job.Inputs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, inputTimeout)
	defer cancel()
	names := map[string]map[string]string{}
	for i, in := range a.job.Inputs {
		name, err := h.uploadInput(ctx, a, i, in)
		var f *failure.Failure
		if errors.As(err, &f) {
			f.Message = fmt.Sprintf("input %s of node %s: %s", in.Input, in.Node, f.Message)
		}
		if err != nil {
			return nil, err
		}
		if names[in.Node] == nil {
			names[in.Node] = map[string]string{}
		}
		names[in.Node][in.Input] = name
	}
	return names, nil
}

// uploadInput uploads one input. It tries again while the object store, which is the fleet's own, gives no answer.
func (h *host) uploadInput(ctx context.Context, a *attempt, i int, in job.Input) (string, error) {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		name, err := h.tryUploadInput(ctx, a, i, in)
		if err == nil || in.Object == "" || failure.KindOf(err) != failure.Transient {
			return name, err
		}
		h.log.Warn("cannot fetch an input; trying again", "job", a.key, "error", err, "in", wait)
		if !queue.Pause(ctx, wait) {
			return "", err
		}
	}
}

func (h *host) tryUploadInput(ctx context.Context, a *attempt, i int, in job.Input) (string, error) {
	body, err := h.fetch(ctx, a, in)
	if err != nil {
		return "", err
	}
	defer body.Close()
	source := &source{Reader: &bounded{body, h.cfg.MaxInput, h.cfg.MaxInput}}
	name, err := h.giveToComfyUI(ctx, a, i, in, source)
	var long *tooLong
	switch {
	case errors.As(source.err, &long):
		return "", failure.New(failure.InvalidWorkflow, long.Error())
	case source.err != nil:
		return "", h.brokeOff(a, in, source.err)
	}
	return name, err
}

// giveToComfyUI uploads a file, and returns what to write into the workflow: the name of the uploaded file, or the id of a picture in the
// memory of a node pack. Prompts of other jobs cannot guess the id, since they cannot guess the prompt's.
func (h *host) giveToComfyUI(ctx context.Context, a *attempt, i int, in job.Input, file io.Reader) (string, error) {
	if in.Input == workflow.CacheInput && a.job.Graph.ClassOf(in.Node) == workflow.CacheClass {
		id := a.prompt + "-" + strconv.Itoa(i)
		return id, h.comfy.PutCached(ctx, id, file)
	}
	return h.comfy.Upload(ctx, strconv.Itoa(i)+"-"+inputName(in), outputPrefix(a.prompt), file)
}

// fetch opens the file at the place that the job names.
func (h *host) fetch(ctx context.Context, a *attempt, in job.Input) (io.ReadCloser, error) {
	switch {
	case in.Object != "":
		return h.fetchObject(ctx, in.Object)
	case strings.HasPrefix(in.URL, "data:"):
		content, err := job.DataURI(in.URL)
		if err != nil {
			return nil, failure.New(failure.InvalidWorkflow, "the url "+err.Error())
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return h.fetchURL(ctx, a, in.URL)
}

// brokeOff is the failure of a file of which only a part was received.
func (h *host) brokeOff(a *attempt, in job.Input, err error) error {
	if in.Object != "" {
		return failure.New(failure.Transient, "the file broke off while it was fetched: "+err.Error())
	}
	return h.unfetched(a, failure.Transient, in.URL, err)
}

func (h *host) fetchObject(ctx context.Context, name string) (io.ReadCloser, error) {
	body, _, err := h.q.OpenInput(ctx, name)
	switch {
	case errors.Is(err, queue.ErrNoFile):
		return nil, failure.New(failure.InvalidWorkflow, fmt.Sprintf(
			"COMFY_INPUTS has no object %q: put it there before the job, and again when it has expired", name))
	case err != nil:
		return nil, failure.New(failure.Transient, fmt.Sprintf("cannot fetch object %q from COMFY_INPUTS: %v", name, err))
	}
	return body, nil
}

// withFile is a message with the file that it names, if it names one.
func (h *host) withFile(ctx context.Context, m job.Message) (job.Message, error) {
	name := job.File(m.Body)
	if name == "" {
		return m, nil
	}
	var err error
	m.File, err = h.q.WorkflowFile(ctx, name)
	_, unfit := errors.AsType[*queue.FileFault](err)
	switch {
	case errors.Is(err, queue.ErrNoFile):
		return m, failure.New(failure.InvalidWorkflow, job.NoFile(name))
	case unfit:
		return m, failure.New(failure.InvalidWorkflow, err.Error())
	case err != nil:
		return m, failure.New(failure.Transient, fmt.Sprintf("cannot fetch file %q from COMFY_INPUTS: %v", name, err))
	}
	return m, nil
}

// addAPIKeys puts the keys that were given for a job into its extra_data. The prompt of a resumed run has them already: then they
// are read only so that they can be removed from texts, and may be missing.
func (h *host) addAPIKeys(ctx context.Context, a *attempt) error {
	if !a.job.APIKeys {
		return nil
	}
	keys, err := h.readAPIKeys(ctx, a)
	switch {
	case err != nil && !a.offer.Resume:
		return failure.New(failure.Transient, "cannot read the API keys of the job: "+err.Error())
	case keys == nil && !a.offer.Resume:
		return failure.New(failure.InvalidWorkflow, "the job has api_keys, and no keys are kept for it: they were not given before the job was published, are older than a day, or NATS was restarted; publish it again")
	}
	a.job.ExtraData = job.Members(a.job.ExtraData, keys)
	return nil
}

// lastKeysPause is the longest pause before keys that are not there are looked for again, 1.5 s in all.
const lastKeysPause = 800 * time.Millisecond

// readAPIKeys looks several times for keys that are not there: the copy of the bucket that answers may be behind, as after a restart of
// its server, and without its keys a job ends dead.
func (h *host) readAPIKeys(ctx context.Context, a *attempt) (json.RawMessage, error) {
	for wait := appendPause; ; wait *= 2 {
		keys, err := h.q.APIKeys(ctx, a.tenant, a.key.job)
		if err != nil || keys != nil || a.offer.Resume || wait > lastKeysPause || !queue.Pause(ctx, wait) {
			return keys, err
		}
	}
}

func (h *host) fetchURL(ctx context.Context, a *attempt, address string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, h.unfetched(a, failure.InvalidWorkflow, address, errors.New("it cannot be read"))
	}
	response, err := h.fetcher.Do(request)
	if err != nil {
		return nil, h.unfetched(a, failure.Transient, address, err)
	}
	if response.StatusCode == http.StatusOK && response.ContentLength <= h.cfg.MaxInput {
		return response.Body, nil
	}
	response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil, failure.New(failure.InvalidWorkflow, (&tooLong{h.cfg.MaxInput}).Error())
	}
	kind := failure.Transient
	if refuses(response.StatusCode) {
		kind = failure.InvalidWorkflow
	}
	return nil, h.unfetched(a, kind, address, errors.New("HTTP "+response.Status))
}

// unfetched gives the same message for every URL that cannot be fetched, so that publishers cannot explore the agent's
// network. The log has the reason, without the URL's query, which may hold a secret.
func (h *host) unfetched(a *attempt, kind failure.Kind, address string, err error) error {
	if inner, is := errors.AsType[*url.Error](err); is {
		err = inner.Err // the rest quotes the whole URL
	}
	where := "an unreadable address"
	if u, err := url.Parse(address); err == nil {
		where = u.Scheme + "://" + u.Host + u.EscapedPath()
	}
	h.log.Warn("cannot fetch an input", "job", a.key, "from", where, "error", err)
	return failure.New(kind, "the input's url could not be fetched; the log of the host's agent says why")
}

// refuses reports whether a status is lasting: the file is not there, or access is denied.
func refuses(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

// inputName is the file's own name, made fit for any file system.
func inputName(in job.Input) string {
	name := in.Filename
	if name == "" {
		name = in.Object
	}
	if u, err := url.Parse(in.URL); name == "" && err == nil && u.Scheme != "data" {
		name = u.Path
	}
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/<>:"|?*`, r) {
			return -1
		}
		return r
	}, name)
	name = strings.ToValidUTF8(name[max(0, len(name)-100):], "")
	if strings.Trim(name, ". ") == "" {
		return "input"
	}
	return name
}

// source keeps the error of its reader, so that it can be distinguished from an error of the writer.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// bounded fails after a number of bytes.
type bounded struct {
	io.Reader
	left, most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &tooLong{b.most}
	}
	return n, err
}

// tooLong is a file that has more bytes than are taken.
type tooLong struct{ most int64 }

func (t *tooLong) Error() string { return fmt.Sprintf("the file has more than %d bytes", t.most) }
