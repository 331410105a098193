package agent

import (
	"context"
	"encoding/base64"
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
)

const (
	maxInput     = 4 << 30 // bytes of one fetched file
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
// workflow: node → input → name. A file that cannot be fetched fails the attempt without blaming the host.
func (h *host) bring(ctx context.Context, a *attempt) (map[string]map[string]string, error) {
	if len(a.job.Inputs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, inputTimeout)
	defer cancel()
	names := map[string]map[string]string{}
	for i, in := range a.job.Inputs {
		name, err := h.bringOne(ctx, a, i, in)
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

func (h *host) bringOne(ctx context.Context, a *attempt, i int, in job.Input) (string, error) {
	body, err := h.fetch(ctx, in)
	if err != nil {
		return "", err
	}
	defer body.Close()
	source := &source{Reader: &bounded{body, maxInput}}
	name, err := h.comfy.Upload(ctx, strconv.Itoa(i)+"-"+inputName(in), outputPrefix(a.prompt), source)
	if source.err != nil {
		return "", failure.New(failure.Lost, "cannot fetch the file: "+source.err.Error())
	}
	return name, err
}

// fetch opens a file where the job says it lies.
func (h *host) fetch(ctx context.Context, in job.Input) (io.ReadCloser, error) {
	switch {
	case in.Object != "":
		body, _, err := h.q.OpenInput(ctx, in.Object)
		if err != nil {
			return nil, failure.New(failure.Lost, fmt.Sprintf("cannot fetch object %q from COMFY_INPUTS: %v", in.Object, err))
		}
		return body, nil
	case strings.HasPrefix(in.URL, "data:"):
		return decodeDataURI(in.URL)
	}
	return h.fetchURL(ctx, in.URL)
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
		return nil, failure.New(failure.Lost, fmt.Sprintf("cannot fetch %s: %v", where, err))
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, failure.New(failure.Lost, fmt.Sprintf("cannot fetch %s: HTTP %s", where, response.Status))
	}
	return response.Body, nil
}

// decodeDataURI reads data:[<media type>][;base64],<data> (RFC 2397).
func decodeDataURI(uri string) (io.ReadCloser, error) {
	head, data, found := strings.Cut(strings.TrimPrefix(uri, "data:"), ",")
	if !found {
		return nil, failure.New(failure.InvalidWorkflow, "the data: URI of the input has no comma; write it like data:image/png;base64,…")
	}
	if strings.HasSuffix(head, ";base64") {
		return io.NopCloser(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data))), nil
	}
	plain, err := url.PathUnescape(data)
	if err != nil {
		return nil, failure.New(failure.InvalidWorkflow, "the data: URI of the input is not percent-encoded as it should be")
	}
	return io.NopCloser(strings.NewReader(plain)), nil
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
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it has more than %d bytes", int64(maxInput))
	}
	return n, err
}
