package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// MaxChunk is the most bytes of a file that one call carries on this connection.
func (q *Queue) MaxChunk() int { return jetstream.ChunkSize(q.nc) }

// TenantFileGet makes an endpoint of a call that gives pieces of files.
func TenantFileGet(call func(context.Context, job.Tenant, jetstream.FileRequest) (jetstream.FileAnswer, error)) TenantEndpoint {
	return func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error) {
		var request jetstream.FileRequest
		if err := decodeOwn(r.Body, tenant, &request); err != nil {
			return TenantReply{}, err
		}
		a, err := call(ctx, tenant, request)
		if err != nil {
			return TenantReply{}, err
		}
		h := nats.Header{
			names.ContentTypeHeader: {a.ContentType}, names.FileSizeHeader: {strconv.FormatInt(a.Size, 10)}, names.FileDigestHeader: {a.Digest},
			names.OffsetHeader: {strconv.FormatInt(a.Offset, 10)}, names.CursorHeader: {a.Cursor},
		}
		if a.InOrder {
			h.Set(names.InOrderHeader, "true")
		}
		return TenantReply{Header: h, Body: a.Body}, nil
	}
}

// TenantFilePut makes an endpoint of a call that takes pieces of files.
func TenantFilePut(call func(context.Context, job.Tenant, jetstream.FilePut) (jetstream.FilePutAnswer, error)) TenantEndpoint {
	return func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error) {
		put, err := decodePut(r)
		if err != nil {
			return TenantReply{}, err
		}
		a, err := call(ctx, tenant, put)
		if err != nil {
			return TenantReply{}, err
		}
		reply := TenantReply{Header: nats.Header{names.OffsetHeader: {strconv.FormatInt(a.Offset, 10)}, names.CursorHeader: {a.Cursor}}}
		if a.File != nil {
			reply.Body, err = json.Marshal(a.File)
		}
		return reply, wrap(err, "encode the answer")
	}
}

// decodePut reads the headers and the body that a tenant's client has written.
func decodePut(r TenantRequest) (jetstream.FilePut, error) {
	p := jetstream.FilePut{
		Upload: r.Header.Get(names.UploadHeader), Size: -1, Cursor: r.Header.Get(names.CursorHeader),
		Digest: r.Header.Get(names.FileDigestHeader), ContentType: r.Header.Get(names.ContentTypeHeader), Body: r.Body,
	}
	var err error
	if p.Name, err = url.PathUnescape(r.Header.Get(names.FileHeader)); err != nil {
		return p, &jetstream.BadRequest{Message: fmt.Sprintf("%s is not percent-encoded: %v", names.FileHeader, err)}
	}
	for name, to := range map[string]*int64{names.OffsetHeader: &p.Offset, names.FileSizeHeader: &p.Size} {
		text := r.Header.Get(name)
		if text == "" {
			continue
		}
		if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 {
			return p, &jetstream.BadRequest{Message: fmt.Sprintf("%s is %.40q, and must be a number of bytes", name, text)}
		}
	}
	switch text := r.Header.Get(names.LastHeader); text {
	case "", "false":
	case "true":
		p.Last = true
	default:
		return p, &jetstream.BadRequest{Message: fmt.Sprintf("%s is %.40q, and must be true or left out", names.LastHeader, text)}
	}
	return p, nil
}
