package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
)

// FileChunkSize is how many bytes a call on a file carries at most. Half of NATS' max_payload is the other limit.
const FileChunkSize = 512 << 10

// MaxChunk is how many bytes a call on a file carries at most here.
func (q *Queue) MaxChunk() int { return maxChunk(q.nc) }

func maxChunk(nc *nats.Conn) int { return int(min(FileChunkSize, max(1, nc.MaxPayload()/2))) }

// Where a FileRequest looks.
const (
	Outputs = "outputs" // COMFY_OUTPUTS
	Inputs  = "inputs"  // COMFY_INPUTS
)

// FileRequest asks for a piece of a stored file (file.get), or what is stored (file.stat, which has Name and Store alone).
type FileRequest struct {
	Name   string `json:"name"`
	Store  string `json:"store,omitempty"`  // Outputs or Inputs; default Outputs
	Offset int64  `json:"offset,omitempty"` // of the first byte
	Limit  int    `json:"limit,omitempty"`  // bytes at most; default and most FileChunkSize
	Cursor string `json:"cursor,omitempty"` // of an answer about the same file; the one before, or any earlier one
}

// FileAnswer is a piece of a stored file, and what to ask for the next one with.
type FileAnswer struct {
	FileChunk
	Cursor string
}

// FilePut is a piece of a file on its way into COMFY_INPUTS.
type FilePut struct {
	Name        string
	Upload      string // names this try to store the file, and no other
	Offset      int64
	Size        int64  // of the whole file, when it is known; else -1
	Cursor      string // of the answer to the piece before; of the first piece none
	Last        bool   // it ends the file; these come with it:
	Digest      string
	ContentType string
	Body        []byte
}

// FilePutAnswer says how far an upload is, and what the file is when that was the last piece of it.
type FilePutAnswer struct {
	Offset int64
	Cursor string
	File   *File
}

// TenantFileGet makes an endpoint of a call that gives pieces of files.
func TenantFileGet(call func(context.Context, job.Tenant, FileRequest) (FileAnswer, error)) TenantEndpoint {
	return func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error) {
		var request FileRequest
		if err := decodeOwn(r.Body, tenant, &request); err != nil {
			return TenantReply{}, err
		}
		a, err := call(ctx, tenant, request)
		if err != nil {
			return TenantReply{}, err
		}
		h := nats.Header{
			contentTypeHeader: {a.ContentType}, fileSizeHeader: {strconv.FormatInt(a.Size, 10)}, fileDigestHeader: {a.Digest},
			offsetHeader: {strconv.FormatInt(a.Offset, 10)}, cursorHeader: {a.Cursor},
		}
		if a.InOrder {
			h.Set(inOrderHeader, "true")
		}
		return TenantReply{Header: h, Body: a.Body}, nil
	}
}

// fileAnswer reads what TenantFileGet wrote.
func fileAnswer(name string, msg *nats.Msg) (FileAnswer, error) {
	size, sizeErr := strconv.ParseInt(msg.Header.Get(fileSizeHeader), 10, 64)
	offset, offsetErr := strconv.ParseInt(msg.Header.Get(offsetHeader), 10, 64)
	if sizeErr != nil || offsetErr != nil || offset < 0 || offset > size-int64(len(msg.Data)) {
		return FileAnswer{}, &Failed{Message: fmt.Sprintf("read file %s: the answer says that it has %d bytes from %.40q of %.40q on",
			name, len(msg.Data), msg.Header.Get(offsetHeader), msg.Header.Get(fileSizeHeader))}
	}
	file := File{Name: name, Size: size, Digest: msg.Header.Get(fileDigestHeader), ContentType: msg.Header.Get(contentTypeHeader)}
	chunk := FileChunk{File: file, Offset: offset, Body: msg.Data, InOrder: msg.Header.Get(inOrderHeader) != ""}
	return FileAnswer{FileChunk: chunk, Cursor: msg.Header.Get(cursorHeader)}, nil
}

// TenantFilePut makes an endpoint of a call that takes pieces of files.
func TenantFilePut(call func(context.Context, job.Tenant, FilePut) (FilePutAnswer, error)) TenantEndpoint {
	return func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error) {
		put, err := decodePut(r)
		if err != nil {
			return TenantReply{}, err
		}
		a, err := call(ctx, tenant, put)
		if err != nil {
			return TenantReply{}, err
		}
		reply := TenantReply{Header: nats.Header{offsetHeader: {strconv.FormatInt(a.Offset, 10)}, cursorHeader: {a.Cursor}}}
		if a.File != nil {
			reply.Body, err = json.Marshal(a.File)
		}
		return reply, wrap(err, "encode the answer")
	}
}

// header is what goes with the body of a piece. A name in it is percent-encoded, since headers take no byte of any kind.
func (p *FilePut) header() nats.Header {
	h := nats.Header{
		fileHeader: {url.PathEscape(p.Name)}, uploadHeader: {p.Upload}, offsetHeader: {strconv.FormatInt(p.Offset, 10)},
	}
	if p.Size >= 0 {
		h.Set(fileSizeHeader, strconv.FormatInt(p.Size, 10))
	}
	if p.Cursor != "" {
		h.Set(cursorHeader, p.Cursor)
	}
	if p.Last {
		h.Set(lastHeader, "true")
		h.Set(fileDigestHeader, p.Digest)
		h.Set(contentTypeHeader, p.ContentType)
	}
	return h
}

// decodePut reads what header wrote.
func decodePut(r TenantRequest) (FilePut, error) {
	p := FilePut{
		Upload: r.Header.Get(uploadHeader), Size: -1, Cursor: r.Header.Get(cursorHeader),
		Digest: r.Header.Get(fileDigestHeader), ContentType: r.Header.Get(contentTypeHeader), Body: r.Body,
	}
	var err error
	if p.Name, err = url.PathUnescape(r.Header.Get(fileHeader)); err != nil {
		return p, &BadRequest{Message: fmt.Sprintf("%s is not percent-encoded: %v", fileHeader, err)}
	}
	for name, to := range map[string]*int64{offsetHeader: &p.Offset, fileSizeHeader: &p.Size} {
		text := r.Header.Get(name)
		if text == "" {
			continue
		}
		if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 {
			return p, &BadRequest{Message: fmt.Sprintf("%s is %.40q, and no number of bytes", name, text)}
		}
	}
	switch text := r.Header.Get(lastHeader); text {
	case "", "false":
	case "true":
		p.Last = true
	default:
		return p, &BadRequest{Message: fmt.Sprintf("%s is %.40q: true or nothing", lastHeader, text)}
	}
	return p, nil
}
