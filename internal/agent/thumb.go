package agent

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	_ "image/gif" // the first picture of one can be read
	"image/jpeg"
	_ "image/png" // pictures in this format can be read
	"io"
	"path"
	"strings"
	"time"

	_ "golang.org/x/image/webp" // pictures in this format can be read, animated ones not

	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	thumbSize    = 320      // pixels of its longer side, at most
	thumbQuality = 78       // of the JPEG
	thumbPoints  = 3        // per side: a pixel of it is the mean of so many points of the picture, squared
	smallPicture = 64 << 10 // bytes up to which a picture is small enough itself

	mostPicture = 32 << 20         // bytes of a picture of which a small one is made
	mostPixels  = 24 << 20         // of it: decoded they take four bytes each as a rule, and up to twenty in a progressive JPEG
	thumbTime   = 10 * time.Second // to read it and to store the small one
)

var errManyPixels = errors.New("too many pixels")

// thumbnail stores a small JPEG beside a picture or video that was stored, for lists of many, and gives its name. Of a video it is
// the last preview of the run, since the agent has no decoder of videos. It is empty when there is none: the picture is small
// itself, has another format, is too large, or could not be read again. A missing small picture never fails the attempt.
func (h *host) thumbnail(ctx context.Context, a *attempt, r *result, out *job.Output) string {
	video := strings.HasPrefix(out.ContentType, "video/")
	switch {
	case h.cfg.NoThumbs, video && a.live.last == nil:
		return ""
	case !video && (!reducible(out.ContentType) || out.Size <= smallPicture || out.Size > mostPicture):
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, thumbTime)
	defer cancel()
	select {
	case h.thumbs <- struct{}{}: // one at a time: each takes memory
		defer func() { <-h.thumbs }()
	case <-ctx.Done():
		return ""
	}
	var small []byte
	var err error
	if video {
		small, err = reduce(a.live.last)
	} else {
		small, err = h.reduced(ctx, r)
	}
	if err != nil {
		h.log.Debug("no small picture", "object", out.Object, "error", err)
		return ""
	}
	folder, file := path.Split(out.Object) // path.Dir would resolve the id of a node such as ../../bolt, into the folder of another tenant
	name := folder + "thumbs/" + file + ".jpg"
	if _, err := h.q.StoreOutput(ctx, name, "image/jpeg", bytes.NewReader(small)); err != nil {
		h.log.Debug("a small picture cannot be stored", "object", name, "error", err)
		return ""
	}
	return name
}

func reducible(contentType string) bool {
	switch contentType {
	case "image/png", "image/jpeg", "image/webp", "image/gif":
		return true
	}
	return false
}

func (h *host) reduced(ctx context.Context, r *result) ([]byte, error) {
	body, _, _, err := h.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, mostPicture))
	if err != nil {
		return nil, err
	}
	return reduce(raw)
}

// reduce makes a small JPEG of a picture. Its size is read first, so that a file of few bytes cannot ask for much memory.
func reduce(raw []byte) ([]byte, error) {
	head, _, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if head.Width <= 0 || head.Height <= 0 || head.Width > mostPixels/head.Height {
		return nil, errManyPixels
	}
	picture, _, err := image.Decode(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	var small bytes.Buffer
	if err := jpeg.Encode(&small, scaled(picture), &jpeg.Options{Quality: thumbQuality}); err != nil {
		return nil, err
	}
	return small.Bytes(), nil
}

// scaled is a picture of at most thumbSize. What is transparent becomes white.
func scaled(from image.Image) image.Image {
	area := from.Bounds()
	long := max(area.Dx(), area.Dy(), thumbSize)
	to := image.NewRGBA(image.Rect(0, 0, max(1, area.Dx()*thumbSize/long), max(1, area.Dy()*thumbSize/long)))
	width, height := to.Rect.Dx()*thumbPoints, to.Rect.Dy()*thumbPoints
	for y := range to.Rect.Dy() {
		for x := range to.Rect.Dx() {
			var r, g, b uint32
			for p := range thumbPoints * thumbPoints {
				px := area.Min.X + (2*(x*thumbPoints+p%thumbPoints)+1)*area.Dx()/(2*width)
				py := area.Min.Y + (2*(y*thumbPoints+p/thumbPoints)+1)*area.Dy()/(2*height)
				pr, pg, pb, alpha := from.At(px, py).RGBA()
				white := 0xffff - alpha
				r, g, b = r+pr+white, g+pg+white, b+pb+white
			}
			const points = thumbPoints * thumbPoints
			to.SetRGBA(x, y, color.RGBA{uint8(r / points >> 8), uint8(g / points >> 8), uint8(b / points >> 8), 0xff})
		}
	}
	return to
}
