package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"lukechampine.com/blake3"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// An asset is a file of the tenant: one that was uploaded, whose id is a UUID, or an output, whose id is outputID. Uploads of equal
// content share one stored file, their blob. An asset lives as long as its blob, which NATS removes by its age; when somebody names
// a blob again whose life is half over, it is stored again.

const hashPrefix = "blake3:"

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// hashOf reads the hash of a request.
func hashOf(text string) (hash string, ok bool) {
	hash, tagged := strings.CutPrefix(strings.ToLower(text), hashPrefix)
	return hash, tagged && hashForm.MatchString(hash)
}

// hashText is a hash as answers have it; nil when it is unknown.
func hashText(hash string) *string {
	if hash == "" {
		return nil
	}
	return orNull(hashPrefix + hash)
}

// outputHash is the hash of an output; empty when its agent has not written one.
func outputHash(o *job.Output) string {
	if inline(o) {
		sum := blake3.Sum256([]byte(o.Text))
		return hexOf(sum[:])
	}
	return o.Blake3
}

// asset is an asset as an answer shows it.
func (v *v2View) asset(a *queue.Asset) v2Asset {
	out := v2Asset{
		ID: a.ID, Hash: hashText(a.Blob.Hash), SizeBytes: a.Blob.Size, ContentType: a.ContentType, FilePath: orNull(a.FilePath),
		CreatedAt: a.Created.UTC(), URL: v.link("assets/" + a.ID + "/content"), Tags: a.Tags,
	}
	if of, _, is := splitOutputID(a.ID); is {
		out.JobID = string(of)
	}
	end := v.fileEnd(a.Blob.Stored.UTC())
	if !a.Expires.IsZero() && a.Expires.Before(end) {
		end = a.Expires.UTC()
	}
	out.URLExpiresAt = end
	if v.age > 0 || !a.Expires.IsZero() {
		out.ExpiresAt = &end
	}
	return out
}

// asset finds an asset of the tenant; the error is a refusal when there is none.
func (g *Gateway) asset(ctx context.Context, of *tenant, id string) (*queue.Asset, error) {
	if name, index, is := splitOutputID(id); is {
		row, err := g.job(ctx, of, string(name))
		if err != nil || row.State != job.Completed || index >= len(row.Last.Outputs) {
			return nil, noAssetOr(err, id)
		}
		return outputAsset(row, index), nil
	}
	if uuid.Validate(id) != nil {
		return nil, noSuch("asset", id)
	}
	a, err := g.q.Asset(ctx, of.name, id)
	if err != nil || a == nil || g.expired(a) {
		return nil, noAssetOr(err, id)
	}
	return a, nil
}

// noAssetOr is the answer that there is no asset, or err when that says more than that there is no job.
func noAssetOr(err error, id string) error {
	if _, is := errors.AsType[*refusal](err); err == nil || is {
		return noSuch("asset", id)
	}
	return err
}

func (g *Gateway) expired(a *queue.Asset) bool {
	return !a.Expires.IsZero() && !g.q.Now().Before(a.Expires)
}

// outputAsset is an output of a job that has completed.
func outputAsset(row *Row, index int) *queue.Asset {
	o := &row.Last.Outputs[index]
	return &queue.Asset{
		ID: outputID(row.Job, index), ContentType: contentTypeOf(o), FilePath: path.Join(o.Subfolder, outputName(o)), Created: row.Time,
		Blob: queue.Blob{Hash: outputHash(o), Store: names.OutputsStore, Object: o.Object, Size: outputSize(o), Stored: row.Time},
	}
}

func (g *Gateway) getAsset(w http.ResponseWriter, r *http.Request, of *tenant) error {
	a, err := g.asset(r.Context(), of, r.PathValue("id"))
	if err != nil {
		return err
	}
	writeV2(w, http.StatusOK, g.viewOf(r).asset(a))
	return nil
}

func (g *Gateway) deleteAsset(w http.ResponseWriter, r *http.Request, of *tenant) error {
	id := r.PathValue("id")
	if _, err := g.asset(r.Context(), of, id); err != nil {
		return err
	}
	if _, _, output := splitOutputID(id); output {
		return refuse(http.StatusConflict, "asset_in_use", "this asset is an output of a job and is removed together with it")
	}
	removed, err := g.q.RemoveAsset(r.Context(), of.name, id)
	if err != nil || !removed {
		return noAssetOr(err, id)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Gateway) headAssetByHash(w http.ResponseWriter, r *http.Request, of *tenant) error {
	hash, ok := hashOf(r.PathValue("sum"))
	if !ok {
		return noBlob()
	}
	if _, err := g.blob(r.Context(), of, hash); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func noBlob() *refusal {
	return refuse(http.StatusNotFound, "blob_not_found", "none of your files has this hash: upload it")
}

// blob finds content of the tenant by its hash: what was uploaded, or an output. The error is a refusal when there is none.
func (g *Gateway) blob(ctx context.Context, of *tenant, hash string) (*queue.Blob, error) {
	b, err := g.q.Blob(ctx, of.name, hash)
	if err != nil {
		return nil, err
	}
	if b != nil {
		_, err := g.q.StatFile(ctx, b.Store, b.Object)
		if !errors.Is(err, queue.ErrNoFile) {
			return b, err
		}
	}
	if err := of.rows.refresh(ctx); err != nil {
		return nil, err
	}
	ended := of.rows.Ended()
	for i := range slices.Backward(ended) {
		row := &ended[i]
		for n := range row.Last.Outputs {
			if o := &row.Last.Outputs[n]; o.Object != "" && outputHash(o) == hash {
				found := outputAsset(row, n)
				found.Blob.Type = found.ContentType
				return &found.Blob, nil
			}
		}
	}
	return nil, noBlob()
}

// stale reports whether half of a blob's life is over, so that it is stored again before a new asset is made of it.
func (g *Gateway) stale(b *queue.Blob) bool {
	age := g.q.FilesAge()
	return age > 0 && g.q.Now().Sub(b.Stored) > age/2
}

// v2FromHash is the body of POST /api/v2/assets/from-hash.
type v2FromHash struct {
	Hash      string   `json:"hash"`
	FilePath  *string  `json:"file_path"`
	Tags      []string `json:"tags"`
	ExpiresIn *int     `json:"expires_in"`
}

// maxFromHash is the most bytes of such a body.
const maxFromHash = 64 << 10

func (g *Gateway) assetFromHash(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := readBody(w, r, maxFromHash)
	if err != nil {
		return err
	}
	var given v2FromHash
	if err := json.Unmarshal(body, &given); err != nil {
		return badRequest("the body is no JSON object with a hash: %s", err)
	}
	fields := assetFields{tags: given.Tags, expiresIn: given.ExpiresIn}
	if given.FilePath != nil {
		fields.path = *given.FilePath
		if why := wrongPath(fields.path); why != "" {
			return badRequest("%s", why)
		}
	}
	if why := fields.wrong(); why != "" {
		return badRequest("%s", why)
	}
	hash, ok := hashOf(given.Hash)
	if !ok {
		return noBlob()
	}
	b, err := g.blob(r.Context(), of, hash)
	if err != nil {
		return err
	}
	if g.stale(b) {
		if b, err = g.storeAgain(r.Context(), of, b); err != nil {
			return err
		}
	}
	return g.answerReference(w, r, of, b, fields)
}

// answerReference answers with the asset of a blob and a path, and makes it when there is none.
func (g *Gateway) answerReference(w http.ResponseWriter, r *http.Request, of *tenant, b *queue.Blob, fields assetFields) error {
	same, err := g.q.AssetOfPath(r.Context(), of.name, cmp.Or(fields.path, hashPrefix+b.Hash))
	if err != nil {
		return err
	}
	status := http.StatusCreated
	fields.contentType = cmp.Or(b.Type, mime.TypeByExtension(path.Ext(fields.path)), "application/octet-stream")
	a := fields.asset(b, g.q.Now())
	if same != nil && same.Blob.Hash == b.Hash && !g.expired(same) && slices.Equal(same.Tags, a.Tags) {
		status = http.StatusOK
		a.ID, a.Created, a.ContentType = same.ID, same.Created, same.ContentType
		if same.Expires.IsZero() || !a.Expires.IsZero() && a.Expires.Before(same.Expires) {
			a.Expires = same.Expires // naming content again never shortens its life
		}
	}
	if err := g.q.PutAsset(r.Context(), of.name, a); err != nil {
		return err
	}
	shown := g.viewOf(r).asset(a)
	shown.CreatedNew = new(bool)
	writeV2(w, status, shown)
	return nil
}

// assetFields are what a client says of a new asset.
type assetFields struct {
	path, contentType string
	tags              []string
	expiresIn         *int // seconds
}

const (
	mostTags         = 32
	longestTag       = 64
	leastExpiry      = 60
	mostExpiry       = 604_800
	longestAssetPath = 512
	longestType      = 200
	longestField     = 64 << 10 // of a field of a form
)

// wrong says what is wrong with the fields that are not the path; nothing when all is right.
func (f *assetFields) wrong() string {
	switch {
	case f.expiresIn != nil && (*f.expiresIn < leastExpiry || *f.expiresIn > mostExpiry):
		return "expires_in must be a whole number of seconds from 60 to 604800, which is 7 days"
	case len(f.tags) > mostTags || slices.ContainsFunc(f.tags, func(t string) bool { return len(t) > longestTag }):
		return "there may be at most 32 tags of at most 64 bytes each"
	}
	return ""
}

// wrongPath says what is wrong with a file path; nothing when it is right.
func wrongPath(p string) string {
	switch {
	case p == "" || len(p) > longestAssetPath:
		return "file_path must have 1 to 512 bytes, such as photo.png"
	case strings.ContainsFunc(p, unprintable) || strings.ToValidUTF8(p, "") != p || strings.Contains(p, `\`):
		return "file_path may have no control characters and no backslashes"
	case path.Clean("/"+p) != "/"+p:
		return "file_path must be a relative path without empty parts, . and .., such as photo.png or masks/photo.png"
	}
	return ""
}

// asset is a new asset of a blob.
func (f *assetFields) asset(b *queue.Blob, now time.Time) *queue.Asset {
	a := &queue.Asset{ID: uuid.NewString(), Blob: *b, ContentType: f.contentType, FilePath: f.path, Tags: f.tags, Created: now}
	if f.expiresIn != nil {
		a.Expires = now.Add(time.Duration(*f.expiresIn) * time.Second)
	}
	return a
}
