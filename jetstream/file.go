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
	Digest      string `json:"digest"` // the object store's own: SHA-256= and base64url
	ContentType string `json:"content_type"`
}

var (
	// ErrDamaged: the stored bytes of a file do not have its digest, or some are missing.
	ErrDamaged = errors.New("the stored file is damaged")
	// ErrReplaced: the file was replaced or removed while it was read. Begin again.
	ErrReplaced = errors.New("the file was replaced or removed while it was read: begin again")
)

// FileChunkSize is how many bytes a call on a file carries at most. Half of NATS' max_payload is the other limit.
const FileChunkSize = 512 << 10

// ChunkSize is how many bytes a call on a file carries at most on a connection.
func ChunkSize(nc *nats.Conn) int { return int(min(FileChunkSize, max(1, nc.MaxPayload()/2))) }

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

// FileAnswer is a piece of a stored file, and the cursor to request the next one with.
type FileAnswer struct {
	File
	Offset  int64 // where the piece begins
	Body    []byte
	Cursor  string
	InOrder bool // ask for one piece after another, each with the cursor of the one before
}

// FilePut is a piece of a file on its way into COMFY_INPUTS.
type FilePut struct {
	Name        string
	Upload      string // a name of this upload, which no other has
	Offset      int64
	Size        int64  // of the whole file, when it is known; else -1
	Cursor      string // of the answer to the piece before; of the first piece none
	Last        bool   // it ends the file; these come with it:
	Digest      string
	ContentType string
	Body        []byte
}

// FilePutAnswer says how far an upload is, and describes the file after its last piece.
type FilePutAnswer struct {
	Offset int64
	Cursor string
	File   *File
}

// digestOf writes a SHA-256 in the form of NATS' object stores.
func digestOf(sum hash.Hash) string {
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil))
}
