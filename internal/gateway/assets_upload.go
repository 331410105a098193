package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"lukechampine.com/blake3"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func hexOf(sum []byte) string { return hex.EncodeToString(sum) }

// assetForm is a form with a file that is being read.
type assetForm struct {
	assetFields
	expected string      // hash that the client expects; empty: none
	blob     *queue.Blob // what was stored; nil: the form has no file yet
}

// postAsset stores the file of a form as it comes, whether the other fields come before it or after it. The file is never in
// memory as a whole. When a field is wrong, or the client goes, what was stored is removed.
func (g *Gateway) postAsset(w http.ResponseWriter, r *http.Request, of *tenant) error {
	key, err := onceKey(r)
	if err != nil {
		return err
	}
	return g.once(r.Context(), of, key, func() error {
		u := &assetForm{}
		timed := newTimedBody(w, r)
		err := g.readForm(r, of, u)
		timed.stop()
		if err == nil {
			err = u.check()
		}
		if err == nil {
			return g.answerUpload(w, r, of, u)
		}
		if u.blob != nil {
			g.q.RemoveInput(r.Context(), u.blob.Object)
		}
		return nothingMade(err)
	})
}

// nothingMade makes a refusal of any error, which says that the request has made nothing.
func nothingMade(err error) error { return refusalOf(err) }

// readForm reads all fields of a form and stores its file.
func (g *Gateway) readForm(r *http.Request, of *tenant, u *assetForm) error {
	form, err := r.MultipartReader()
	if err != nil {
		return badRequest("the body is no form: send multipart/form-data with file, content_type and file_path")
	}
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badRequest("the form cannot be read to its end: %s", err)
		}
		if part.FormName() == "file" {
			err = g.readFile(r.Context(), of, u, part)
		} else {
			err = u.readField(part)
		}
		if err != nil {
			return err
		}
	}
}

// readFile stores the file of a form.
func (g *Gateway) readFile(ctx context.Context, of *tenant, u *assetForm, part *multipart.Part) error {
	if u.blob != nil {
		return unprocessable("invalid_request", "the form has two files: upload one at a time")
	}
	if u.path == "" {
		u.path = part.FileName() // unless a field says otherwise
	}
	source := &keptError{Reader: part}
	b, err := g.storeBlob(ctx, of, source)
	if source.err != nil {
		return badRequest("the file broke off: %s", source.err)
	}
	u.blob = b
	return err
}

// keptError is a reader that keeps the error with which it has ended: with that a client that is gone is distinguished from a store that fails.
type keptError struct {
	io.Reader
	err error
}

func (s *keptError) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// assetFolder is the folder of a tenant's assets in COMFY_INPUTS.
const assetFolder = "/assets/"

// storeBlob stores content under a name of its own and computes its hash. The tenant's call is used, since that holds its quota.
func (g *Gateway) storeBlob(ctx context.Context, of *tenant, content io.Reader) (*queue.Blob, error) {
	object := string(of.name) + assetFolder + uuid.NewString()
	sum := blake3.New(32, nil)
	file, err := g.q.Client(of.name).PutFile(ctx, object, "application/octet-stream", io.TeeReader(content, sum))
	if err != nil {
		return nil, err
	}
	return &queue.Blob{Hash: hexOf(sum.Sum(nil)), Store: names.InputsStore, Object: object, Size: file.Size, Stored: g.q.Now()}, nil
}

// storeAgain stores a blob under another name, so that its life begins anew. Jobs that name the old file are not disturbed.
func (g *Gateway) storeAgain(ctx context.Context, of *tenant, b *queue.Blob) (*queue.Blob, error) {
	content, err := g.q.SeekFile(ctx, b.Store, b.Object)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	again, err := g.storeBlob(ctx, of, content)
	if err != nil {
		return nil, err
	}
	again.Type = b.Type
	return again, g.q.PutBlob(ctx, of.name, again)
}

// readField reads a field of a form that is no file. Fields that the document does not have are left out.
func (u *assetForm) readField(part *multipart.Part) error {
	raw, err := io.ReadAll(io.LimitReader(part, longestField+1))
	if err != nil {
		return badRequest("the form cannot be read to its end: %s", err)
	}
	name, text := part.FormName(), string(raw)
	if len(raw) > longestField {
		return unprocessable("invalid_request", "the field %.60q of the form is larger than %d bytes", name, longestField)
	}
	switch name {
	case "content_type":
		u.contentType = text
	case "file_path":
		u.path = text
	case "expected_hash":
		hash, ok := hashOf(text)
		if !ok {
			return unprocessable("invalid_request", "expected_hash must be blake3: and 64 hex digits")
		}
		u.expected = hash
	case "tags":
		if u.tags = append(u.tags, text); len(u.tags) > mostTags { // not when the form has ended, which it may never do
			return unprocessable("invalid_request", "%s", u.wrong())
		}
	case "expires_in":
		seconds, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			seconds = 0 // which check refuses
		}
		u.expiresIn = &seconds
	}
	return nil
}

// check says what is wrong with a form that was read to its end.
func (u *assetForm) check() error {
	if u.blob == nil {
		return unprocessable("invalid_request", "the form has no file")
	}
	if u.contentType == "" {
		return unprocessable("invalid_request", "the form has no content_type: give one, such as image/png")
	}
	if _, _, err := mime.ParseMediaType(u.contentType); err != nil || len(u.contentType) > longestType || strings.ContainsFunc(u.contentType, unprintable) {
		return unprocessable("invalid_request", "content_type is %.60q, which is no media type: give one such as image/png", u.contentType)
	}
	for _, why := range []string{wrongPath(u.path), u.wrong()} {
		if why != "" {
			return unprocessable("invalid_request", "%s", why)
		}
	}
	if u.expected != "" && u.expected != u.blob.Hash {
		return refuse(http.StatusConflict, "hash_mismatch", "the file that arrived has the hash %s%s and not the expected one: upload it again", hashPrefix, u.blob.Hash)
	}
	return nil
}

// answerUpload makes an asset of what was stored. When the tenant has the same content already, one of the two files is removed: the
// new one, unless half of the life of the other is over.
func (g *Gateway) answerUpload(w http.ResponseWriter, r *http.Request, of *tenant, u *assetForm) error {
	u.blob.Type = u.contentType
	known, err := g.blob(r.Context(), of, u.blob.Hash)
	if _, none := errors.AsType[*refusal](err); err != nil && !none {
		return err
	}
	fresh := known != nil && known.Store == names.InputsStore && !g.stale(known)
	if fresh {
		g.q.RemoveInput(r.Context(), u.blob.Object)
		u.blob = known
	} else if err := g.q.PutBlob(r.Context(), of.name, u.blob); err != nil {
		return err
	}
	a := u.asset(u.blob, g.q.Now())
	if err := g.q.PutAsset(r.Context(), of.name, a); err != nil {
		return fmt.Errorf("store asset %s: %w", a.ID, err)
	}
	status, created := http.StatusCreated, known == nil
	if !created {
		status = http.StatusOK
	}
	shown := g.viewOf(r).asset(a)
	shown.CreatedNew = &created
	writeV2(w, status, shown)
	return nil
}
