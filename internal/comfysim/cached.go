package comfysim

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// imageCache is the memory of the node pack comfyui-tooling-nodes, which ends with the process.
type imageCache struct {
	mu     sync.Mutex // guards all below
	images map[string]cachedImage
}

type cachedImage struct {
	data []byte
	kind string
}

func (c *imageCache) put(id string, image cachedImage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.images == nil {
		c.images = map[string]cachedImage{}
	}
	c.images[id] = image
}

func (c *imageCache) get(id string) (cachedImage, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	image, there := c.images[id]
	return image, there
}

func (p *process) getCached(w http.ResponseWriter, r *http.Request) {
	image, there := p.images.get(r.PathValue("id"))
	if !there {
		answer(w, http.StatusNotFound, map[string]string{"error": "Image not found"})
		return
	}
	w.Header().Set("Content-Type", image.kind)
	_, _ = w.Write(image.data)
}

// putCached leaves a picture alone that is there already.
func (p *process) putCached(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, there := p.images.get(id); there {
		answer(w, http.StatusOK, map[string]string{"status": "cached"})
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		trouble(w)
		return
	}
	p.images.put(id, cachedImage{data, r.Header.Get("Content-Type")})
	answer(w, http.StatusCreated, map[string]string{"status": "success"})
}

// loadCached runs ETN_LoadImageCache.
func (x *execution) loadCached(n *node) (*result, error) {
	id := x.text(n, "id")
	image, there := x.p.images.get(id)
	if !there {
		return nil, newException("ValueError", fmt.Sprintf("Image with ID %s not found in cache.", id))
	}
	p, err := decodePicture(image.data)
	if err != nil {
		return nil, &exception{kind: "PIL.UnidentifiedImageError", message: "cannot identify image file <_io.BytesIO object at 0x7f>"}
	}
	return &result{values: []any{p, p}}, nil
}

// saveCached runs ETN_SaveImageCache.
func (x *execution) saveCached(n *node) (map[string]any, error) {
	data, err := x.p.srv.painter.png(x.picture(n, "images"), nil)
	if err != nil {
		return nil, newException("OSError", err.Error())
	}
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	x.p.images.put(id, cachedImage{data, "image/png"})
	return map[string]any{"images": []any{map[string]any{"source": "http", "id": id, "content-type": "image/png", "type": "output"}}}, nil
}
