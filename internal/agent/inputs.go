package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	maxInput     = 4 << 30 // bytes of one fetched file, unless the configuration says less
	inputTimeout = 10 * time.Minute
)

// newFetcher makes the client that fetches inputs by URL. It has no overall timeout, since the context of a fetch
// has one, and keeps no connection.
func newFetcher() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives: true,
	}}
}

// bring uploads the job's inputs under a folder that is the prompt's own, and returns what to write into the
// workflow: node → input → name. A file that is not there ends the job, whose publisher alone can cure that; one that
// cannot be fetched now is fetched later. No host is blamed.
func (h *host) bring(ctx context.Context, a *attempt) (map[string]map[string]string, error) {
	if len(a.job.Inputs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, inputTimeout)
	defer cancel()
	names := map[string]map[string]string{}
	for i, in := range a.job.Inputs {
		name, err := h.bringSurely(ctx, a, i, in)
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

// bringSurely tries again as long as it is our own store that does not hand the file out.
func (h *host) bringSurely(ctx context.Context, a *attempt, i int, in job.Input) (string, error) {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		name, err := h.bringOne(ctx, a, i, in)
		if err == nil || in.Object == "" || failure.KindOf(err) != failure.Transient {
			return name, err
		}
		h.log.Warn("cannot fetch an input; trying again", "job", a.key, "error", err, "in", wait)
		if !pause(ctx, wait) {
			return "", err
		}
	}
}

func (h *host) bringOne(ctx context.Context, a *attempt, i int, in job.Input) (string, error) {
	body, err := h.fetch(ctx, in)
	if err != nil {
		return "", err
	}
	defer body.Close()
	source := &source{Reader: &bounded{body, h.cfg.MaxInput, h.cfg.MaxInput}}
	name, err := h.comfy.Upload(ctx, strconv.Itoa(i)+"-"+inputName(in), outputPrefix(a.prompt), source)
	var long *tooLong
	switch {
	case errors.As(source.err, &long):
		return "", failure.New(failure.InvalidWorkflow, long.Error())
	case source.err != nil:
		return "", failure.New(failure.Transient, "the file broke off while it was fetched: "+source.err.Error())
	}
	return name, err
}

// fetch opens a file where the job says it lies.
func (h *host) fetch(ctx context.Context, in job.Input) (io.ReadCloser, error) {
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
	return h.fetchURL(ctx, in.URL)
}

func (h *host) fetchObject(ctx context.Context, name string) (io.ReadCloser, error) {
	body, _, err := h.q.OpenInput(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrNoFile):
		return nil, failure.New(failure.InvalidWorkflow, fmt.Sprintf(
			"COMFY_INPUTS has no object %q: put it there before the job, and again when its time is over", name))
	case err != nil:
		return nil, failure.New(failure.Transient, fmt.Sprintf("cannot fetch object %q from COMFY_INPUTS: %v", name, err))
	}
	return body, nil
}

// fetchURL names a URL without its query, which may hold a secret.
func (h *host) fetchURL(ctx context.Context, address string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, failure.New(failure.InvalidWorkflow, "the url of the input cannot be read")
	}
	where := request.URL.Scheme + "://" + request.URL.Host + request.URL.EscapedPath()
	response, err := h.fetcher.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the rest quotes the whole URL
		}
		return nil, failure.New(failure.Transient, fmt.Sprintf("cannot fetch %s: %v", where, err))
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
	return nil, failure.New(kind, fmt.Sprintf("cannot fetch %s: HTTP %s", where, response.Status))
}

// refuses reports whether a server would say the same tomorrow: the file is not there, or it is not for us.
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

// source remembers why reading failed, which tells the two ends of a copy apart.
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

// bounded fails beyond a number of bytes.
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
