package comfy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Foreign is the exception type of a failure for an answer that is not ComfyUI's: a proxy, a login page or a firewall
// answered in its place. Host.ProbeSubmit finds out whether it answers every submit so.
const Foreign = "foreign_answer"

// ProbeSubmit posts a prompt that ComfyUI must refuse. nil means that ComfyUI answers submits; otherwise the error tells
// the operator what answers in its place, or that nothing does.
func (h *Host) ProbeSubmit(ctx context.Context) error {
	got, err := h.post(ctx, "/prompt", `{"prompt":{}}`)
	if err != nil {
		return err
	}
	var r refusal
	if got.status == http.StatusBadRequest && decode(got.body, &r) == nil && r.fromComfyUI() {
		return nil
	}
	return fmt.Errorf("%s does not let submits reach ComfyUI: %s", h, foreign(got))
}

// foreign says what an answer that is not ComfyUI's is, and what to do about it.
func foreign(got answer) string {
	said := fmt.Sprintf("HTTP %d in answer to the POST", got.status)
	switch {
	case got.status == http.StatusUnauthorized || got.status == http.StatusProxyAuthRequired:
		return said + "; check user and password of the host in COMFY_HOSTS"
	case got.status == http.StatusForbidden:
		return said + "; a proxy or firewall before ComfyUI forbids it; let POST requests with any body pass"
	case got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed:
		return said + "; no ComfyUI is at this address; check host, port and path prefix in COMFY_HOSTS"
	case got.status >= 300 && got.status < 400:
		return said + ", which points elsewhere; it is a login page or another address; give ComfyUI's own address in COMFY_HOSTS"
	case got.status == http.StatusRequestEntityTooLarge:
		return said + "; raise the limit of body sizes of the proxy before ComfyUI"
	case got.status >= 500:
		return said + "; a proxy answers for a ComfyUI that does not"
	case isHTML(got):
		return said + " with a web page; it is a login page or a firewall; let POST requests pass"
	}
	return said + " that is not ComfyUI's; check the proxy or firewall before ComfyUI"
}

// foreignFailure is the failure for an answer that is not ComfyUI's. The reason may be this one job or the host, which
// Host.ProbeSubmit finds out.
func foreignFailure(what string, got answer) *failure.Failure {
	return &failure.Failure{Kind: failure.Refused, Exception: Foreign, Message: what + " did not get to ComfyUI: " + foreign(got)}
}

// isHTML reports whether an answer is a web page.
func isHTML(got answer) bool {
	return strings.HasPrefix(strings.ToLower(got.header.Get("Content-Type")), "text/html") ||
		strings.HasPrefix(strings.TrimSpace(string(got.body[:min(len(got.body), 64)])), "<")
}

// roomSize is what ProbeRoom writes: more than a file system may find in what it has set aside for small files.
const roomSize = 1 << 20

// ProbeRoom writes a file of ours into the output folder, and empties it again. It is ErrNoRoom when ComfyUI cannot.
// The file is emptied first, since its old content would leave room for the new one.
func (h *Host) ProbeRoom(ctx context.Context) error {
	s := fileRef{"output", ownFolder, "room.bin"}
	content := make([]byte, roomSize)
	noise := rand.NewChaCha8([32]byte{1}) // random, so that a file system cannot compress it
	if _, err := noise.Read(content); err != nil {
		return fmt.Errorf("make a file to write: %w", err)
	}
	for _, written := range [][]byte{nil, content} {
		if err := h.put(ctx, s, written, true); err != nil {
			_ = h.put(ctx, s, nil, true)
			return fmt.Errorf("write to the output folder of %s: %w", h, err)
		}
	}
	if err := h.put(ctx, s, nil, true); err != nil && !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("empty a file in the output folder of %s: %w", h, err)
	}
	return nil
}
