package gateway

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// page is an answer that is ready to be sent.
type page struct {
	body, zipped []byte
	tag          string
	kind         string // content type; empty: JSON
}

func newPage(body []byte) page {
	sum := sha256.Sum256(body)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(body); err != nil || w.Close() != nil {
		zipped.Reset()
	}
	return page{body: body, zipped: zipped.Bytes(), tag: `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// answer sends a page, compressed when the client takes that, or 304 when the client has it already.
func (p *page) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", cmp.Or(p.kind, "application/json; charset=utf-8"))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", p.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if strings.Contains(r.Header.Get("If-None-Match"), p.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := p.body
	if len(p.zipped) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = p.zipped
	}
	_, _ = w.Write(body) // the client has gone
}

// size is what a page takes in memory.
func (p *page) size() int { return len(p.body) + len(p.zipped) + pageOverhead }

// withType is the page with another content type.
func (p *page) withType(kind string) *page {
	other := *p
	other.kind = kind
	return &other
}
