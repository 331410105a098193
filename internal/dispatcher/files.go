package dispatcher

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fileWire holds the files of jobs.
type fileWire interface {
	Secret(ctx context.Context, use string) ([]byte, error)
	MaxChunk() int
	StatFile(ctx context.Context, store, name string) (jetstream.File, error)
	FileChunk(ctx context.Context, store, name string, from queue.FilePlace, offset int64, most int) (queue.FileChunk, error)
	AddPart(ctx context.Context, u *queue.Upload, body []byte, room func() error) error
	DropUpload(ctx context.Context, u *queue.Upload)
	InputsUse(ctx context.Context) (queue.InputsUse, error)
	FinishUpload(ctx context.Context, u *queue.Upload, contentType, digest string) (jetstream.File, error)
}

// files answers the calls on files. It keeps nothing from one call to the next, so another dispatcher may answer the next:
// what has to be known then is in the cursor, which the caller gives back. A file is a tenant's when its name begins with
// the tenant's name and a slash; that is looked at here, and nowhere below.
type files struct {
	q       fileWire
	most    int64 // bytes of a file that is put
	cursors cursors
	shares  *inputShares
}

const (
	mostFile        = 4 << 30 // bytes, unless the configuration says otherwise
	mostName        = 1024    // bytes
	mostContentType = 256     // bytes
)

// newFiles answers for files of at most so many bytes; own is what was set for a tenant's input files, or 0.
func newFiles(q fileWire, most int64, own func(job.Tenant) int64) *files {
	return &files{q: q, most: most, cursors: cursors{read: q.Secret}, shares: newInputShares(q.InputsUse, own)}
}

func (f *files) endpoints() map[string]queue.TenantEndpoint {
	return map[string]queue.TenantEndpoint{
		"file.get":  queue.TenantFileGet(f.tenantGet),
		"file.put":  queue.TenantFilePut(f.tenantPut),
		"file.stat": queue.TenantJSON(f.tenantStat),
	}
}

func (f *files) tenantStat(ctx context.Context, tenant job.Tenant, r jetstream.FileRequest) (jetstream.File, error) {
	store, err := storeOf(tenant, &r)
	if err != nil {
		return jetstream.File{}, err
	}
	file, err := f.q.StatFile(ctx, store, r.Name)
	return file, fileRefusal(err)
}

func (f *files) tenantGet(ctx context.Context, tenant job.Tenant, r jetstream.FileRequest) (jetstream.FileAnswer, error) {
	var answer jetstream.FileAnswer
	store, err := storeOf(tenant, &r)
	if err != nil {
		return answer, err
	}
	if r.Limit < 0 {
		return answer, badRequest("limit is %d: give a number of bytes, or leave it out", r.Limit)
	}
	most := f.q.MaxChunk()
	if r.Limit > 0 {
		most = min(most, r.Limit)
	}
	var from queue.FilePlace
	about := scope{"get", string(tenant), store, r.Name}
	if r.Cursor != "" {
		place, err := f.cursors.open(ctx, about, r.Cursor)
		if err != nil {
			return answer, err
		}
		if err := from.UnmarshalBinary(place); err != nil {
			return answer, badRequest("the cursor is of another version: begin again without one")
		}
	}
	chunk, err := f.q.FileChunk(ctx, store, r.Name, from, r.Offset, most)
	if err != nil {
		return answer, fileRefusal(err)
	}
	answer.File, answer.Offset, answer.Body, answer.InOrder = chunk.File, chunk.Offset, chunk.Body, chunk.InOrder
	place, err := chunk.Next.AppendBinary(nil)
	if err == nil {
		answer.Cursor, err = f.cursors.close(ctx, about, place)
	}
	return answer, err
}

// tenantPut stores a piece of a file. Its order of effects: the part, then, with the last one, the description that makes it a
// file, then the parts of the file that had the name are removed. After a crash in between, the caller's repeated
// request goes on with what is stored, or the parts are removed when they are old.
func (f *files) tenantPut(ctx context.Context, tenant job.Tenant, p jetstream.FilePut) (jetstream.FilePutAnswer, error) {
	var answer jetstream.FilePutAnswer
	if err := f.checkPut(tenant, &p); err != nil {
		return answer, err
	}
	u, about, err := f.upload(ctx, tenant, &p)
	if err != nil {
		return answer, err
	}
	if u.Offset() != p.Offset {
		return answer, badRequest("this piece begins at byte %d, and its cursor says %d: send the cursor of the previous answer", p.Offset, u.Offset())
	}
	if len(p.Body) > 0 || p.Offset == 0 { // a file without bytes has one part without any, so that it counts
		if err := f.addPart(ctx, tenant, u, &p); err != nil {
			return answer, fileRefusal(err)
		}
	}
	answer.Offset = u.Offset()
	if p.Last {
		file, err := f.q.FinishUpload(ctx, u.Upload, p.ContentType, p.Digest)
		answer.File = &file
		return answer, fileRefusal(err)
	}
	state, err := u.AppendBinary(binary.AppendUvarint(nil, uint64(u.first)))
	if err == nil {
		answer.Cursor, err = f.cursors.close(ctx, about, state)
	}
	return answer, err
}

// addPart stores a piece when the tenant may have it. Of an upload that it may not have, what is there is removed.
func (f *files) addPart(ctx context.Context, tenant job.Tenant, u tenantUpload, p *jetstream.FilePut) error {
	bytes, want := queue.PartCounts(u.first), p.Size-p.Offset
	if p.Offset == 0 {
		bytes = max(bytes, queue.LeastFile)
	}
	done, refused := func() {}, false
	err := f.q.AddPart(ctx, u.Upload, p.Body, func() error {
		leave, err := f.shares.admit(ctx, tenant, bytes, want)
		if err == nil {
			done = leave
		}
		_, refused = errors.AsType[*jetstream.TooBig](err)
		return err
	})
	done()
	if refused {
		f.q.DropUpload(ctx, u.Upload)
	}
	return err
}

// tenantUpload is an upload of a tenant, whose first piece has so many bytes.
type tenantUpload struct {
	*queue.Upload
	first int
}

// upload gives how far an upload is. Its parts have a name that follows from who puts what, so that a repeated first piece has
// the same name and no caller can write to the parts of another.
func (f *files) upload(ctx context.Context, tenant job.Tenant, p *jetstream.FilePut) (tenantUpload, scope, error) {
	about, u := scope{"put", string(tenant), p.Name, p.Upload}, tenantUpload{first: len(p.Body)}
	var state []byte
	if p.Cursor != "" {
		sealed, err := f.cursors.open(ctx, about, p.Cursor)
		if err != nil {
			return u, about, err
		}
		first, n := binary.Uvarint(sealed)
		u.first, state = int(first), sealed[max(0, n):]
	}
	if queue.PartCounts(len(p.Body)) > queue.PartCounts(u.first) {
		return u, about, badRequest("this piece has %d bytes, and the first one of its upload %d: no piece may be larger than the first", len(p.Body), u.first)
	}
	key, err := f.cursors.key(ctx, false)
	if err != nil {
		return u, about, err
	}
	parts := queue.PartsOf(tenant, u.first, append(scope{"parts"}, about...).name(key))
	u.Upload, err = queue.NewUpload(names.InputsStore, p.Name, parts)
	if err == nil && p.Cursor != "" && u.UnmarshalBinary(state) != nil {
		err = badRequest("the cursor is of another version: begin again with another upload")
	}
	return u, about, err
}

var uploads = regexp.MustCompile(`^[A-Za-z0-9_-]{8,128}$`)

func (f *files) checkPut(tenant job.Tenant, p *jetstream.FilePut) error {
	if err := checkNewName(tenant, p.Name); err != nil {
		return err
	}
	end := p.Offset + int64(len(p.Body))
	switch {
	case !uploads.MatchString(p.Upload):
		return badRequest("Comfy-Upload is %.140q: name each upload by 8 to 128 random characters of A-Z a-z 0-9 _ -", p.Upload)
	case len(p.Body) > f.q.MaxChunk():
		return &jetstream.TooBig{Message: fmt.Sprintf("this piece has %d bytes: a piece may have %d", len(p.Body), f.q.MaxChunk())}
	case end < 0 || end > f.most || p.Size > f.most:
		return &jetstream.TooBig{Message: fmt.Sprintf("a file may have %d bytes here, and this one has %d or more: make it smaller, or have --max-input of the dispatchers raised",
			f.most, max(end, p.Size))}
	case p.Size >= 0 && (end > p.Size || p.Last && end != p.Size):
		return badRequest("Comfy-File-Size says %d, and with this piece there are %d bytes", p.Size, end)
	case len(p.Body) == 0 && !p.Last:
		return badRequest("this piece has no bytes: only the last one may have none, and says Comfy-Last: true")
	case p.Last && p.Digest == "":
		return badRequest("Comfy-File-Digest is missing: the last piece says SHA-256= and the file's SHA-256 in base64url")
	case len(p.ContentType) > mostContentType:
		return badRequest("Content-Type has %d bytes: at most %d", len(p.ContentType), mostContentType)
	case strings.ContainsFunc(p.ContentType, func(r rune) bool { return r < ' ' || r > '~' }):
		return badRequest("Content-Type is %q: it may have printable ASCII characters only, as image/png has", p.ContentType)
	}
	return nil
}

// storeOf gives the store that a request reads, if the tenant may use the file's name.
func storeOf(tenant job.Tenant, r *jetstream.FileRequest) (string, error) {
	if err := checkOwnName(tenant, r.Name); err != nil {
		return "", err
	}
	switch r.Store {
	case "", jetstream.Outputs:
		return names.OutputsStore, nil
	case jetstream.Inputs:
		return names.InputsStore, nil
	}
	return "", badRequest("store is %.40q: outputs or inputs", r.Store)
}

func checkOwnName(tenant job.Tenant, name string) error {
	own := string(tenant) + "/"
	switch {
	case len(name) <= len(own) || !strings.HasPrefix(name, own):
		return badRequest("the file is named %.200q: your files' names begin with %q", name, own)
	case len(name) > mostName:
		return badRequest("the file's name has %d bytes: at most %d", len(name), mostName)
	case !utf8.ValidString(name):
		return badRequest("the file's name is not UTF-8")
	}
	return nil
}

// checkNewName also refuses what a program might take for a path.
func checkNewName(tenant job.Tenant, name string) error {
	if err := checkOwnName(tenant, name); err != nil {
		return err
	}
	if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\\' }) {
		return badRequest("the file's name %.200q has a backslash, or characters that do not show", name)
	}
	for step := range strings.SplitSeq(name, "/") {
		if step == "" || step == "." || step == ".." {
			return badRequest("the file's name %.200q has a part between slashes that is %q", name, step)
		}
	}
	return nil
}

func badRequest(format string, args ...any) error {
	return &jetstream.BadRequest{Message: fmt.Sprintf(format, args...)}
}

// fileRefusal gives an error of the stores the code that callers know.
func fileRefusal(err error) error {
	switch {
	case errors.Is(err, queue.ErrNoFile):
		return &jetstream.NotFound{Message: err.Error() + "; files are kept for a time, and removed then"}
	case errors.Is(err, jetstream.ErrReplaced), errors.Is(err, jetstream.ErrDamaged) && !errors.Is(err, queue.ErrMissing):
		return &jetstream.Conflict{Message: err.Error()}
	case errors.Is(err, queue.ErrBusy):
		return &jetstream.TooMany{Message: err.Error()}
	case errors.Is(err, jetstream.ErrNoSpace):
		return &jetstream.Failed{Message: "507 insufficient storage: " + err.Error()}
	}
	return err
}
