package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	// largestUpload is the most bytes of a file that a client uploads.
	largestUpload = 4 << 30
	// uploadMemory is how much of an upload is in memory; the rest waits in a file until its name is known, which may come last.
	uploadMemory = 8 << 20
)

// uploaded is the answer to an upload.
type uploaded struct {
	Name      string `json:"name"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"`
}

var errNoUpload = &failed{http.StatusBadRequest, "no_file", "send a file in the field image, with a name that stays below its folder"}

// imageUpload is a file that a client uploads, and where to.
type imageUpload struct {
	content   multipart.File
	name      string
	subfolder string
	folder    string
	overwrite bool
	mask      string // original_ref of /upload/mask
}

// postUpload stores a file among the tenant's inputs. A prompt that names it takes it to whichever host runs it.
func (g *Gateway) postUpload(w http.ResponseWriter, r *http.Request, of *tenant) error {
	u, done, err := readUpload(w, r)
	if err != nil {
		return err
	}
	defer done()
	return g.keep(w, r, of, u, u.content)
}

// postMask stores a picture with the alpha channel of the mask that is uploaded.
func (g *Gateway) postMask(w http.ResponseWriter, r *http.Request, of *tenant) error {
	u, done, err := readUpload(w, r)
	if err != nil {
		return err
	}
	defer done()
	var ref struct {
		Filename  string `json:"filename"`
		Subfolder string `json:"subfolder"`
		Type      string `json:"type"`
	}
	if json.Unmarshal([]byte(u.mask), &ref) != nil || ref.Filename == "" {
		return malformed(`send original_ref with {"filename": …, "subfolder": …, "type": …} of the picture that the mask is for`)
	}
	content, err := g.located(r.Context(), of, ref.Filename, ref.Subfolder, ref.Type)
	if err != nil {
		return err
	}
	defer content.Close()
	picture, err := g.decoded(r.Context(), func() ([]byte, error) { return masked(content, u.content) })
	if err != nil {
		return err
	}
	return g.keep(w, r, of, u, bytes.NewReader(picture))
}

// readUpload reads a form with a file. done removes what was kept of it.
func readUpload(w http.ResponseWriter, r *http.Request) (u *imageUpload, done func(), err error) {
	timed := newTimedBody(w, r)
	defer timed.stop()
	r.Body = http.MaxBytesReader(w, r.Body, largestUpload+(1<<20))
	if err := r.ParseMultipartForm(uploadMemory); err != nil {
		if _, long := errors.AsType[*http.MaxBytesError](err); long {
			return nil, nil, &failed{http.StatusRequestEntityTooLarge, "payload_too_large", fmt.Sprintf("the file has more than %d bytes", int64(largestUpload))}
		}
		return nil, nil, errNoUpload
	}
	form := r.MultipartForm
	remove := func() { _ = form.RemoveAll() }
	files := form.File["image"]
	if len(files) == 0 {
		remove()
		return nil, nil, errNoUpload
	}
	u = &imageUpload{
		folder: r.FormValue("type"), mask: r.FormValue("original_ref"),
		overwrite: r.FormValue("overwrite") == "true" || r.FormValue("overwrite") == "1",
	}
	if err := u.place(files[0].Filename, r.FormValue("subfolder")); err != nil {
		remove()
		return nil, nil, err
	}
	if u.content, err = files[0].Open(); err != nil {
		remove()
		return nil, nil, fmt.Errorf("open an upload: %w", err)
	}
	return u, func() { _ = u.content.Close(); remove() }, nil
}

// place checks where a file is to be stored. Name and subfolder may have folders in them.
func (u *imageUpload) place(name, subfolder string) error {
	switch u.folder {
	case "":
		u.folder = inputFolder
	case inputFolder, tempFolder, outputFolder:
	default:
		return &failed{http.StatusBadRequest, "invalid_type", "type is input, temp or output"}
	}
	clean, ok := cleanPath(path.Join(strings.ReplaceAll(name, `\`, "/")))
	if !ok || strings.Contains(name, "..") {
		return errNoUpload
	}
	if subfolder != "" {
		folder, ok := cleanPath(subfolder)
		if !ok {
			return errNoUpload
		}
		clean = path.Join(folder, clean)
	}
	if len(clean) > longestUploadPath || !printable(clean) {
		return errNoUpload
	}
	u.name, u.subfolder = path.Base(clean), path.Dir(clean)
	if u.subfolder == "." {
		u.subfolder = ""
	}
	return nil
}

const longestUploadPath = 700

// keep stores a file under the name that ComfyUI would give it, and answers the name.
func (g *Gateway) keep(w http.ResponseWriter, r *http.Request, of *tenant, u *imageUpload, content io.ReadSeeker) error {
	name, stored, err := g.freeName(r.Context(), of, u, content)
	if err != nil {
		return err
	}
	if !stored {
		object := uploadName(of.name, u.folder, path.Join(u.subfolder, name))
		if _, err := g.q.Client(of.name).PutFile(r.Context(), object, contentTypeByName(name), content); err != nil {
			return err
		}
	}
	if u.folder == inputFolder {
		if err := g.q.NoteUpload(r.Context(), of.name, path.Join(u.subfolder, name)); err != nil {
			g.log.Warn("an upload is not among the choices of nodes", "tenant", of.name, "error", err)
		}
		g.uploads.forget(of.name)
	}
	answerJSON(w, http.StatusOK, uploaded{Name: name, Subfolder: u.subfolder, Type: u.folder})
	return nil
}

// freeName is the name for an upload, by ComfyUI's rule: its own when nothing is stored there, or it is to be replaced, or the same bytes
// are stored there already; else "name (1).png" and so on.
func (g *Gateway) freeName(ctx context.Context, of *tenant, u *imageUpload, content io.ReadSeeker) (name string, stored bool, err error) {
	if u.overwrite {
		return u.name, false, nil
	}
	extension := path.Ext(u.name)
	stem := strings.TrimSuffix(u.name, extension)
	digest := ""
	for n := 0; n < mostTries; n++ {
		name = u.name
		if n > 0 {
			name = fmt.Sprintf("%s (%d)%s", stem, n, extension)
		}
		there, err := g.q.StatFile(ctx, names.InputsStore, uploadName(of.name, u.folder, path.Join(u.subfolder, name)))
		if errors.Is(err, queue.ErrNoFile) {
			return name, false, nil
		}
		if err != nil {
			return "", false, err
		}
		if digest == "" {
			if digest, err = digestOf(content); err != nil {
				return "", false, err
			}
		}
		if there.Digest == digest {
			return name, true, nil
		}
	}
	return "", false, &failed{http.StatusConflict, "name_taken", "very many other files have this name: choose another, or send overwrite=true"}
}

// mostTries bounds the names that are tried for one upload.
const mostTries = 1000

// digestOf is the digest of a file in the form of NATS' object stores; the file is read again from its beginning afterwards.
func digestOf(content io.ReadSeeker) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	_, err := content.Seek(0, io.SeekStart)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil)), err
}

func contentTypeByName(name string) string {
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
		return kind
	}
	return "application/octet-stream"
}
