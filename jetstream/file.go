package jetstream

import (
	"encoding/base64"
	"errors"
	"hash"

	"github.com/nats-io/nats.go"
)

// File is a stored file.
type File struct {
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	Digest      string `json:"digest"` // in the form of NATS' object stores: "SHA-256=" and the sum in base64url
	ContentType string `json:"content_type"`
}

var (
	// ErrDamaged: the stored bytes of a file do not match its digest, or some are missing. Store the file again.
	ErrDamaged = errors.New("the stored file is damaged")
	// ErrReplaced: the file was replaced or removed while it was read. Begin again.
	ErrReplaced = errors.New("the file was replaced or removed while it was read: begin again")
)

// FileChunkSize is the most bytes of a file that one call carries, 512 KiB; ChunkSize may be less.
const FileChunkSize = 512 << 10

// ChunkSize is the most bytes of a file that one call carries on a connection: FileChunkSize, or half of its max_payload.
func ChunkSize(nc *nats.Conn) int { return int(min(FileChunkSize, max(1, nc.MaxPayload()/2))) }

// Stores, for FileRequest.Store.
const (
	Outputs = "outputs" // COMFY_OUTPUTS
	Inputs  = "inputs"  // COMFY_INPUTS
)

// FileRequest asks for a piece of a stored file (call file.get), or for its description (call file.stat, which reads only Name and
// Store).
type FileRequest struct {
	Name   string `json:"name"`
	Store  string `json:"store,omitempty"`  // Outputs or Inputs; default Outputs
	Offset int64  `json:"offset,omitempty"` // of the first byte
	Limit  int    `json:"limit,omitempty"`  // the most bytes; FileChunkSize is the maximum and the default
	Cursor string `json:"cursor,omitempty"` // of an earlier answer about the same file, preferably the previous one
}

// FileAnswer is a piece of a stored file.
type FileAnswer struct {
	File
	Offset  int64 // where the piece begins
	Body    []byte
	Cursor  string // for the request of the next piece
	InOrder bool   // pieces must be asked for one after another, each with the cursor of the previous answer
}

// FilePut is one piece of a file that is being stored in COMFY_INPUTS.
type FilePut struct {
	Name        string
	Upload      string // a random name, the same for all pieces of this upload and used for no other
	Offset      int64
	Size        int64  // of the whole file; -1 when it is unknown
	Cursor      string // of the answer to the previous piece; empty for the first
	Last        bool   // the piece ends the file; only then Digest and ContentType are set
	Digest      string
	ContentType string
	Body        []byte
}

// FilePutAnswer says how many bytes of an upload are stored (Offset) and, after the last piece, describes the file.
type FilePutAnswer struct {
	Offset int64
	Cursor string // for the next piece
	File   *File  // nil before the last piece
}

// digestOf writes a SHA-256 in the form of NATS' object stores.
func digestOf(sum hash.Hash) string {
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil))
}
